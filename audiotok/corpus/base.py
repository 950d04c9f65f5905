"""A token corpus on disk and its reader: numpy alone, random access, whole shards at memory speed.

    corpus.json          what all have in common, and each shard's length, bytes and checksums
    shard-000000.tok     the codes of its recordings, end to end, as one ordinary .tok file
    shard-000000.jsonl   a row a recording: id, seconds, text, speaker, whatever the manifest said
    shard-000000.npy     a record a recording (`INDEX`): where its codes and its row stand
    quarantine.tsv       recordings that could not be encoded, and why (only if there are any)

    .tok     |---- recording 0 ----|-- recording 1 --|------- recording 2 -------|   frames
    .npy      first 0, frames 22    first 22, ...     first 40, ...

A shard is a .tok file, so `audiotok verify`, `info` and `Tokens.recover` work on it, and any
stretch of it is read by `TokenReader`. Frames of a recording begin on a frame, never within one;
its exact length in samples stands in the index. Recordings are in the manifest's order.

>>> corpus = Corpus("tokens")
>>> corpus.codec, corpus.fingerprint, corpus.sizes, len(corpus), corpus.seconds
>>> corpus[17].tokens, corpus["talk-3"].row["text"]     # by place, by id
>>> for shard in corpus.shards[rank::world]:            # each process its own shards
...     codes, bounds = shard.codes(), shard.bounds     # [k F] of all its recordings, [n + 1]
...     first = codes[:, bounds[0] : bounds[1]]         # recording 0, without a copy
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import IO, Any, overload

import numpy as np

from audiotok.tokens import Tokens
from audiotok.tokfile import Header, TokenReader

FORMAT = "audiotok corpus 1"
INDEX = np.dtype(
    [
        ("first", "<u8"),  # frame of the shard
        ("frames", "<u4"),
        ("original_rate", "<u4"),  # Hz
        ("samples", "<u8"),  # at the codec's rate
        ("original_samples", "<u8"),  # at the original rate
        ("row", "<u8"),  # byte of the .jsonl file
        ("id", "<u8"),  # `hashed` id
        ("audio", "<u8"),  # hash of the samples that the codec was given
        ("crc", "<u4"),  # CRC-32 of the codes, frame after frame, as little-endian 32-bit integers
    ]
)


class CorpusError(ValueError):
    """A corpus that cannot be read or written; one line that names it and the way out."""


@dataclass(frozen=True)
class Entry:
    """One recording of a corpus."""

    id: str
    tokens: Tokens
    row: dict[str, Any]  # as it stands in the .jsonl file: text, speaker ...


@dataclass(frozen=True)
class Files:
    """What corpus.json says of a shard."""

    name: str
    recordings: int
    frames: int
    samples: int
    bytes: dict[str, int]  # extension -> length of the file
    sha256: dict[str, str]  # extension -> checksum of the file


class Shard:
    """Some hundred megabytes of a corpus; to be read whole, or a recording at a time.

    Safe to share between threads and to carry into forked or spawned processes.

    Raises:
        CorpusError: its index is missing or of another length.
    """

    def __init__(self, folder: Path, files: Files, header: Header) -> None:
        self.folder, self.files, self.header = folder, files, header
        self.name = files.name
        self._reset()

    def _reset(self) -> None:
        self._process, self._lock = os.getpid(), threading.Lock()
        self._reader: TokenReader | None = None
        self._lines: IO[bytes] | None = None

    def __getstate__(self) -> dict[str, Any]:
        kept = ("folder", "files", "header", "name")
        return {name: self.__dict__[name] for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def __len__(self) -> int:
        return self.files.recordings

    def __repr__(self) -> str:
        return f"<Shard {self.name}: {len(self)} recordings, {self.files.frames} frames>"

    def path(self, suffix: str) -> Path:
        """One of its files, by its extension: .tok, .jsonl or .npy."""
        return self.folder / f"{self.name}{suffix}"

    @cached_property
    def index(self) -> np.ndarray:
        """A record of dtype `INDEX` for each recording, mapped from the disk."""
        path = self.path(".npy")
        try:
            index = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise CorpusError(f"{path}: the index cannot be read ({error}); restore it") from None
        if index.dtype != INDEX or index.shape != (len(self),):
            raise CorpusError(f"{path}: not the index of {len(self)} recordings; restore it")
        return index

    @cached_property
    def bounds(self) -> np.ndarray:
        """`[n + 1]` int64: recording i is frames bounds[i] to bounds[i + 1] of `codes()`."""
        return np.append(self.index["first"], self.files.frames).astype(np.int64)

    def codes(self, first: int = 0, last: int | None = None) -> np.ndarray:
        """Codes [k f] int64 of recordings `first` to `last` (not included), end to end.

        Raises:
            IndexError: there are no such recordings.
            TokenFileDamagedError: a block of them is damaged.
        """
        last = len(self) if last is None else last
        if not 0 <= first <= last <= len(self):
            raise IndexError(f"{self.name} has {len(self)} recordings, not {first} to {last}")
        with self._open() as reader:
            return reader.read(int(self.bounds[first]), int(self.bounds[last]))

    def row(self, i: int) -> dict[str, Any]:
        """The row of recording i.

        Raises:
            CorpusError: the .jsonl file is damaged.
        """
        with self._open():
            if self._lines is None:
                self._lines = self.path(".jsonl").open("rb")
            self._lines.seek(int(self.index["row"][i]))
            return self._parsed(self._lines.readline())

    def rows(self) -> Iterator[dict[str, Any]]:
        """All rows, in order."""
        with self.path(".jsonl").open("rb") as lines:
            yield from map(self._parsed, lines)

    def tokens(self, i: int, codes: np.ndarray | None = None) -> Tokens:
        """The tokens of recording i; `codes` are its codes where they have been read already."""
        at, header = self.index[i], self.header
        return Tokens(
            codes=self.codes(i, i + 1) if codes is None else codes,
            size=header.sizes,
            codec=header.codec,
            fingerprint=header.fingerprint,
            sample_rate=header.sample_rate,
            frame_size=header.frame_size,
            samples=int(at["samples"]),
            original_rate=int(at["original_rate"]),
            original_samples=int(at["original_samples"]),
            channels=header.channels,
        )

    def __getitem__(self, i: int) -> Entry:
        i = range(len(self))[i]
        row = self.row(i)
        return Entry(row["id"], self.tokens(i), row)

    def __iter__(self) -> Iterator[Entry]:
        """Every entry in order, some megabytes of codes read at a time."""
        begin, rows = 0, self.rows()
        while begin < len(self):
            end = int(np.searchsorted(self.bounds, self.bounds[begin] + READ, "right")) - 1
            end = min(max(end, begin + 1), len(self))
            codes, at = self.codes(begin, end), self.bounds[begin]
            for i in range(begin, end):
                row = next(rows)
                mine = codes[:, self.bounds[i] - at : self.bounds[i + 1] - at]
                yield Entry(row["id"], self.tokens(i, mine), row)
            begin = end

    def _parsed(self, line: bytes) -> dict[str, Any]:
        try:
            return json.loads(line)
        except ValueError:
            raise CorpusError(f"{self.path('.jsonl')}: a row is damaged; restore it") from None

    def _open(self) -> _Held:
        if self._process != os.getpid():  # forked: the file's place would be shared
            self._reset()
        return _Held(self)


READ = 1 << 16  # frames that iteration reads at a time


@dataclass
class _Held:
    """A shard's open reader, for one thread at a time."""

    shard: Shard

    def __enter__(self) -> TokenReader:
        shard = self.shard
        shard._lock.acquire()
        try:
            if shard._reader is None:
                shard._reader = TokenReader(shard.path(".tok"))
            return shard._reader
        except BaseException:
            shard._lock.release()
            raise

    def __exit__(self, *_: object) -> None:
        self.shard._lock.release()


@dataclass(frozen=True)
class About:
    """What corpus.json holds, but for its format."""

    codec: str
    fingerprint: str
    sizes: tuple[int, ...]
    sample_rate: int
    frame_size: int
    channels: int
    shards: tuple[Files, ...]
    quarantined: int = 0
    job: dict[str, Any] = field(default_factory=dict)  # what it was built of, and how

    @property
    def header(self) -> Header:
        """Of all .tok files: the codec's, at its own rate."""
        return header_of(
            Header(
                codec=self.codec,
                fingerprint=self.fingerprint,
                sizes=self.sizes,
                sample_rate=self.sample_rate,
                frame_size=self.frame_size,
                original_rate=self.sample_rate,
                channels=self.channels,
            )
        )


def header_of(header: Header) -> Header:
    """The header of a shard of recordings that have this one, whatever their rates.

    Blocks are of 4 KiB or more, so that they cost at most 0.4 %.
    """
    plain = replace(header, original_rate=header.sample_rate, block_frames=0)
    return replace(plain, block_frames=4 * plain.block_frames)


class Corpus:
    """A token corpus, open to read; see the top of this file. Few shards are open at a time.

    Attributes:
        path: the folder.
        about: all that corpus.json says.
        shards: each can be read by itself.

    Raises:
        CorpusError: no corpus is there, it is not finished, or a newer audiotok wrote it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.about = _read_about(self.path)
        header = self.about.header
        self.shards = [Shard(self.path, files, header) for files in self.about.shards]
        self._starts = np.cumsum([0, *(len(shard) for shard in self.shards)])

    @property
    def codec(self) -> str:
        """Name of the codec that made the codes."""
        return self.about.codec

    @property
    def fingerprint(self) -> str:
        """Of the codec's weights."""
        return self.about.fingerprint

    @property
    def sizes(self) -> tuple[int, ...]:
        """Entries in each codebook."""
        return self.about.sizes

    @property
    def codebooks(self) -> int:
        """Codes in a frame."""
        return len(self.sizes)

    @property
    def sample_rate(self) -> int:
        """Hz, of the codec."""
        return self.about.sample_rate

    @property
    def frame_size(self) -> int:
        """Samples a frame."""
        return self.about.frame_size

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return self.sample_rate / self.frame_size

    @property
    def frames(self) -> int:
        """Of all recordings."""
        return sum(files.frames for files in self.about.shards)

    @property
    def seconds(self) -> float:
        """Of audio, in all recordings."""
        return sum(files.samples for files in self.about.shards) / self.sample_rate

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __iter__(self) -> Iterator[Entry]:
        for shard in self.shards:
            yield from shard
            shard._reset()

    @overload
    def __getitem__(self, which: int) -> Entry: ...
    @overload
    def __getitem__(self, which: str) -> Entry: ...
    def __getitem__(self, which: int | str) -> Entry:
        """The entry of a place (negative: from the end) or of an id.

        Raises:
            IndexError: there is no such place.
            KeyError: there is no such id.
        """
        if isinstance(which, str):
            return self._named(which)
        shard, i = self.locate(which)
        return shard[i]

    def locate(self, i: int) -> tuple[Shard, int]:
        """The shard of recording i, and its place there."""
        i = range(len(self))[i]
        shard = int(np.searchsorted(self._starts, i, "right")) - 1
        return self.shards[shard], i - int(self._starts[shard])

    def codes(self, i: int) -> np.ndarray:
        """Codes [k f] int64 of recording i, and nothing else of it."""
        shard, place = self.locate(i)
        return shard.codes(place, place + 1)

    def _named(self, name: str) -> Entry:
        hashes, order = self._by_id
        wanted = np.uint64(hashed(name))
        at = int(np.searchsorted(hashes, wanted))
        while at < len(hashes) and hashes[at] == wanted:
            shard, i = self.locate(int(order[at]))
            if shard.row(i)["id"] == name:
                return shard[i]
            at += 1
        raise KeyError(f"{self.path} has no recording {name!r}")

    @cached_property
    def _by_id(self) -> tuple[np.ndarray, np.ndarray]:
        """Hashes of all ids, sorted, and whose they are."""
        none = np.zeros(0, np.uint64)
        hashes = np.concatenate([none, *(shard.index["id"] for shard in self.shards)])
        order = np.argsort(hashes, kind="stable")
        return hashes[order], order


def hashed(name: str) -> int:
    """64 bits of an id, the same on every machine."""
    from hashlib import blake2b

    digest = blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _read_about(folder: Path) -> About:
    path = folder / "corpus.json"
    try:
        facts = json.loads(path.read_bytes())
        written = facts.pop("format")
        if written != FORMAT:
            raise CorpusError(f"{path}: written as {written!r}, not {FORMAT!r}: update audiotok")
        shards = tuple(Files(**files) for files in facts.pop("shards"))
        known = {name: facts[name] for name in About.__dataclass_fields__ if name in facts}
        return About(**known | {"sizes": tuple(facts["sizes"]), "shards": shards})
    except FileNotFoundError:
        begun = (folder / ".build").is_dir()
        way = "not finished; run the same `audiotok corpus build` again" if begun else "no corpus"
        raise CorpusError(f"{folder}: {way} (there is no corpus.json)") from None
    except CorpusError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorpusError(f"{path}: cannot be read ({error}); restore it") from None
