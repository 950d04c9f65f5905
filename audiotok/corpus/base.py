"""Format of a token corpus on disk, read with numpy alone: random access, and whole shards.

    corpus.json          facts that all recordings share, and length and checksum of every file,
                         with a checksum of its own
    shard-000000.tok     the codes of its recordings, end to end, as one ordinary .tok file
    shard-000000.jsonl   one row for each recording: id, seconds, and the fields of the manifest
    shard-000000.npy     one record for each recording (`INDEX`): positions of its codes and its row
    shard-000000.ans     instead of .tok where the codes are entropy-coded (`corpus compress`)
    quarantine.tsv       recordings that could not be encoded, and why (only if there are any)

    .tok     |---- recording 0 ----|-- recording 1 --|------- recording 2 -------|   frames
    .npy      first 0, frames 22    first 22, ...     first 40, ...

Of a codec of latents the frames of the .tok files hold those, and `entry.tokens` are `Latents`.

A shard is a .tok file, so `audiotok verify`, `info` and `Tokens.recover` work on it, and
`TokenReader` reads any stretch of it. Each recording starts with a whole frame; its exact length in
samples is in the index. Recordings are in the manifest's order.

>>> corpus = Corpus("tokens")
>>> corpus.codec, corpus.fingerprint, corpus.sizes, len(corpus), corpus.seconds
>>> corpus[17].tokens, corpus["talk-3"].row["text"]     # by number, by id
>>> for shard in corpus.shards[rank::world]:            # each process its own shards
...     codes, bounds = shard.codes(), shard.bounds     # [k F] of all its recordings, [n + 1]
...     first = codes[:, bounds[0] : bounds[1]]         # recording 0, without a copy
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

import numpy as np

from audiotok._platform.errors import Error, InputError
from audiotok._platform.jsonfile import parse, shown, whole
from audiotok.corpus.location import storage_of
from audiotok.corpus.storage import Storage, StorageError
from audiotok.tokens import Header

FORMAT = "audiotok corpus 2"
OLDER = "audiotok corpus 1"  # without checksums of corpus.json and of lists
CODES = (".tok", ".ans")  # extensions of files with codes
UNKNOWN = "0" * 64  # placeholder of the checksum in corpus.json while it is computed
INDEX = np.dtype(
    [
        ("first", "<u8"),  # first frame in the shard
        ("frames", "<u4"),
        ("original_rate", "<u4"),  # Hz
        ("samples", "<u8"),  # at the codec's rate
        ("original_samples", "<u8"),  # at the original rate
        ("row", "<u8"),  # offset in the .jsonl file, in bytes
        ("id", "<u8"),  # `hashed` id
        ("audio", "<u8"),  # hash of the samples that the codec was given
        ("crc", "<u4"),  # CRC-32 of the frames, one after the other (`checksum`)
    ]
)


class CorpusError(Error, ValueError):
    """Error of a corpus that cannot be read or written; one line with the path and a remedy."""


class NoSuchRecordingError(CorpusError, KeyError, IndexError):
    """Error of an id or a position at which a corpus has no recording."""

    __str__ = Exception.__str__  # KeyError's own adds quotes


@dataclass(frozen=True)
class ShardFiles:
    """Files of a shard, as described in corpus.json."""

    name: str
    recordings: int
    frames: int
    samples: int
    bytes: dict[str, int]  # extension -> length of the file
    sha256: dict[str, str]  # extension -> checksum of the file


@dataclass(frozen=True)
class CorpusInfo:
    """Content of corpus.json, without its format."""

    codec: str
    fingerprint: str
    sizes: tuple[int, ...]
    sample_rate: int
    frame_size: int
    channels: int
    shards: tuple[ShardFiles, ...]
    quarantined: int = 0
    job: dict[str, Any] = field(default_factory=dict)  # source and options of the build
    lists: dict[str, str] = field(default_factory=dict)  # quarantine.tsv ... -> checksum
    semantic_codebooks: int | None = None  # see `Header`
    width: int = 0  # see `Header`
    dtype: str = "int64"  # see `Header`

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON, those that not every header has only where it has them."""
        facts = asdict(self)
        if self.semantic_codebooks is None:
            del facts["semantic_codebooks"]
        if not self.width:
            del facts["width"], facts["dtype"]
        return facts

    @property
    def header(self) -> Header:
        """Header of all .tok files, at the codec's own sample rate."""
        return header_of(
            Header(
                codec=self.codec,
                fingerprint=self.fingerprint,
                sizes=self.sizes,
                sample_rate=self.sample_rate,
                frame_size=self.frame_size,
                original_rate=self.sample_rate,
                channels=self.channels,
                semantic_codebooks=self.semantic_codebooks,
                width=self.width,
                dtype=self.dtype,
            )
        )


def header_of(header: Header) -> Header:
    """Return the header of a shard of recordings with this header, whatever their original rates.

    Blocks have 4 KiB or more, so that they add at most 0.4 %.
    """
    plain = replace(header, original_rate=header.sample_rate, block_frames=0)
    return replace(plain, block_frames=4 * plain.block_frames)


def hashed(name: str) -> int:
    """Return a 64-bit hash of an id, the same on every machine."""
    digest = blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def info_bytes(info: CorpusInfo) -> bytes:
    """Return the content of corpus.json.

    Its checksum is computed with `UNKNOWN` in place of the checksum.
    """
    facts = {"format": FORMAT, "checksum": UNKNOWN, **info.to_json()}
    data = json.dumps(facts, indent=1, ensure_ascii=False).encode() + b"\n"
    return data.replace(UNKNOWN.encode(), sha256(data).hexdigest().encode(), 1)


def read_info(location: str | Path | Storage) -> CorpusInfo:
    """Read corpus.json of a corpus.

    Args:
        location: folder or URL of the corpus.

    Raises:
        CorpusError: the file is missing, damaged, or written by a newer audiotok.
        StorageError: a URL cannot be read.
    """
    storage = storage_of(location)
    path = f"{storage.name}/corpus.json"
    try:
        data = storage.read("corpus.json")
    except FileNotFoundError:
        begun = storage.begun
        way = "not finished; run the same `audiotok corpus build` again" if begun else "no corpus"
        if within := sorted(Path(storage.name).glob("*/corpus.json")):
            way = f"a folder of {len(within)} corpora, as {within[0].parent}: name one"
        raise CorpusError(f"{storage.name}: {way} (there is no corpus.json)") from None
    except StorageError:
        raise
    except OSError as error:
        why = error.strerror or error
        raise CorpusError(f"{path}: cannot be read ({why}); restore it") from None
    try:
        return _info_of(parse(data, path), data, path)
    except CorpusError:
        raise
    except ValueError as error:
        raise CorpusError(f"{error}; restore it") from None


def _info_of(facts: Any, data: bytes, path: str) -> CorpusInfo:
    """Return the content of corpus.json after checking every field."""
    if not isinstance(facts, dict) or not isinstance(facts.get("format"), str):
        raise InputError(f"{path}: not what describes a corpus")
    written, known = facts["format"], facts.get("checksum")
    if written not in (FORMAT, OLDER):
        raise CorpusError(f"{path}: written as {shown(written)}, not {FORMAT!r}: update audiotok")
    if written == OLDER:
        sound = known is None
    else:
        blank = data.replace(str(known).encode(), UNKNOWN.encode(), 1)
        sound = sha256(blank).hexdigest() == known
    if not sound:
        raise InputError(f"{path}: damaged or changed by hand (its checksum is another)")
    kinds = {"codec": str, "fingerprint": str, "sizes": list, "shards": list}
    for name, kind in {**kinds, "job": dict, "lists": dict}.items():
        optional = {"job": {}, "lists": {}}.get(name)
        if not isinstance(facts.get(name, optional), kind):
            raise InputError(f"{path}: {name} is {shown(facts.get(name))}")
    numbers = {
        name: whole(facts.get(name, 0), f"{path}: {name}", least=0, most=1 << 53)
        for name in ("sample_rate", "frame_size", "channels", "quarantined")
    }
    semantic = facts.get("semantic_codebooks")
    if semantic is not None:
        numbers["semantic_codebooks"] = whole(semantic, f"{path}: semantic_codebooks", least=0)
    if "width" in facts:
        numbers["width"] = whole(facts["width"], f"{path}: width")
    info = CorpusInfo(
        codec=facts["codec"],
        fingerprint=facts["fingerprint"],
        sizes=tuple(whole(size, f"{path}: a size") for size in facts["sizes"]),
        shards=tuple(_files(files, path) for files in facts["shards"]),
        job=facts.get("job", {}),
        lists=_sums(facts.get("lists", {}), path),
        dtype=str(facts.get("dtype", "int64")),
        **numbers,
    )
    try:
        info.header  # noqa: B018 - raises unless these fit a codec
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None
    return info


def _files(facts: Any, path: str) -> ShardFiles:
    if not isinstance(facts, dict) or not isinstance(facts.get("name"), str):
        raise InputError(f"{path}: a shard is {shown(facts)}")
    name, lengths = facts["name"], facts.get("bytes")
    if Path(name).name != name:
        raise InputError(f"{path}: {shown(name)} is no name of a shard")
    counts = {
        key: whole(facts.get(key), f"{path}: {key} of {name}", least=0, most=1 << 53)
        for key in ("recordings", "frames", "samples")
    }
    codes = [suffix for suffix in CODES if isinstance(lengths, dict) and suffix in lengths]
    if not isinstance(lengths, dict) or lengths.keys() != {".jsonl", ".npy", *codes[:1]}:
        raise InputError(f"{path}: the files of {name} are {shown(lengths)}")
    sums = _sums(facts.get("sha256"), path)
    if not codes or sums.keys() != lengths.keys():
        raise InputError(f"{path}: checksums of {name} are missing")
    for suffix, length in lengths.items():
        whole(length, f"{path}: bytes of {name}{suffix}", least=0)
    return ShardFiles(name=name, bytes=lengths, sha256=sums, **counts)


def _sums(facts: Any, path: str) -> dict[str, str]:
    if not isinstance(facts, dict) or not all(isinstance(each, str) for each in facts.values()):
        raise InputError(f"{path}: checksums are {shown(facts)}")
    if any(Path(name).name != name for name in facts):
        raise InputError(f"{path}: checksums of files elsewhere")
    return facts
