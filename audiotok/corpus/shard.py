"""Reader of a shard of a corpus: whole, in stretches, or recording by recording."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np

from audiotok._platform.console import one_line
from audiotok.corpus.ans import AnsReader
from audiotok.corpus.base import INDEX, CorpusError, NoSuchRecordingError, ShardFiles
from audiotok.corpus.location import storage_of
from audiotok.corpus.storage import Storage
from audiotok.tokens import Header, TokenReader
from audiotok.tokens.kinds import AnyTokens, tokens_of

READ = 1 << 16  # frames that iteration reads at a time


@dataclass(frozen=True)
class Entry:
    """Recording of a corpus: id, tokens and row."""

    id: str
    tokens: AnyTokens
    row: dict[str, Any]  # fields of the .jsonl file: text, speaker ...


class Shard:
    """Reader of a shard, some hundred megabytes of a corpus.

    A shard can be shared between threads, and passed to forked or spawned processes.

    Args:
        location: folder of the corpus, or its storage.
        files: description of the shard's files.
        header: header of the corpus.

    Raises:
        CorpusError: the index is missing or has another length (raised when it is first used).
    """

    def __init__(self, location: str | Path | Storage, files: ShardFiles, header: Header) -> None:
        self.storage = storage_of(location)
        self.files = files
        self.header = header
        self.name = files.name
        self._reader: TokenReader | AnsReader | None = None
        self._lines: IO[bytes] | None = None
        self._process = os.getpid()
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the files, and remove copies of a URL's; they are opened again when needed."""
        for file in (self._reader and self._reader._file, self._lines):
            if file:
                file.close()
        self._reader = self._lines = None
        self.storage.forget(f"{self.name}{suffix}" for suffix in self.files.bytes)

    def __del__(self) -> None:
        if "_lock" in self.__dict__:
            self.close()

    def __getstate__(self) -> dict[str, Any]:
        kept = ("storage", "files", "header")
        return {name: self.__dict__[name] for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["storage"], state["files"], state["header"])

    def __len__(self) -> int:
        return self.files.recordings

    def __repr__(self) -> str:
        return f"<Shard {self.name}: {len(self)} recordings, {self.files.frames} frames>"

    def path(self, suffix: str) -> Path:
        """Return the path of the file with an extension: .tok (or .ans), .jsonl, .npy.

        It is a copy on this machine where the corpus is behind a URL.
        """
        return self.storage.fetch(f"{self.name}{suffix}")

    @cached_property
    def index(self) -> np.ndarray:
        """Records of dtype `INDEX`, one for each recording, memory-mapped."""
        path = self.path(".npy")
        try:
            index = np.load(path, mmap_mode="r", allow_pickle=False)
        except Exception as error:
            # Numpy evaluates the header, so a damaged one can raise any error.
            why = one_line(error) or type(error).__name__
            raise CorpusError(f"{path}: the index cannot be read ({why}); restore it") from None
        if index.dtype != INDEX or index.shape != (len(self),):
            raise CorpusError(f"{path}: not the index of {len(self)} recordings; restore it")
        return index

    @cached_property
    def bounds(self) -> np.ndarray:
        """Frame bounds `[n + 1]` int64: recording i has frames bounds[i] to bounds[i + 1]."""
        bounds = np.append(self.index["first"], self.files.frames).astype(np.int64)
        if bounds[0] != 0 or not np.array_equal(np.diff(bounds), self.index["frames"]):
            raise CorpusError(f"{self.path('.npy')}: the index is damaged; restore it")
        return bounds

    def codes(self, first: int = 0, last: int | None = None) -> np.ndarray:
        """Return codes `[k f]` int64 of recordings `first` to `last` (exclusive), concatenated.

        Of a codec of latents they are latents `[d f]`.

        Raises:
            NoSuchRecordingError: there are no such recordings.
            TokenFileDamagedError: a block of them is damaged.
        """
        last = len(self) if last is None else last
        if not 0 <= first <= last <= len(self):
            raise NoSuchRecordingError(
                f"{self.name} has {len(self)} recordings, not {first} to {last}"
            )
        with self._open() as reader:
            return reader.read(int(self.bounds[first]), int(self.bounds[last]))

    def row(self, i: int) -> dict[str, Any]:
        """Return the row of recording i.

        Raises:
            CorpusError: the .jsonl file is damaged.
        """
        with self._open():
            at = int(self.index["row"][i])
            path = self.path(".jsonl")
            with _read(path):
                if self._lines is None:
                    self._lines = path.open("rb")
                self._lines.seek(min(at, self.files.bytes[".jsonl"]))  # the index may be damaged
                line = self._lines.readline()
            return self._parsed(line)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield all rows in order."""
        path = self.path(".jsonl")
        with _read(path), path.open("rb") as lines:
            yield from map(self._parsed, lines)

    def tokens(self, i: int, codes: np.ndarray | None = None) -> AnyTokens:
        """Return the tokens of recording i.

        Args:
            i: number of the recording in the shard.
            codes: its codes `[k f]`, if they have been read already.
        """
        lengths = ("samples", "original_samples", "original_rate")
        return tokens_of(
            self.header,
            self.codes(i, i + 1) if codes is None else codes,
            **{name: int(self.index[i][name]) for name in lengths},
        )

    def __getitem__(self, i: int) -> Entry:
        if not -len(self) <= i < len(self):
            raise NoSuchRecordingError(f"{self.name} has {len(self)} recordings, none at {i}")
        i = range(len(self))[i]
        row = self.row(i)
        return Entry(row["id"], self.tokens(i), row)

    def __iter__(self) -> Iterator[Entry]:
        """Yield every entry in order, reading some megabytes of codes at a time."""
        begin, rows = 0, self.rows()
        while begin < len(self):
            end = int(np.searchsorted(self.bounds, self.bounds[begin] + READ, "right")) - 1
            end = min(max(end, begin + 1), len(self))
            codes, at = self.codes(begin, end), self.bounds[begin]
            for i in range(begin, end):
                row = next(rows, None)
                if row is None:
                    raise CorpusError(f"{self.path('.jsonl')}: rows are missing; restore it")
                mine = codes[:, self.bounds[i] - at : self.bounds[i + 1] - at]
                yield Entry(row["id"], self.tokens(i, mine), row)
            begin = end

    def _parsed(self, line: bytes) -> dict[str, Any]:
        try:
            row = json.loads(line)
            if isinstance(row, dict) and isinstance(row.get("id"), str):
                return row
        except (ValueError, RecursionError):
            pass
        raise CorpusError(f"{self.path('.jsonl')}: a row is damaged; restore it")

    def _open(self) -> _LockedReader:
        if self._process != os.getpid():  # after a fork the file's position would be shared
            self._process = os.getpid()
            self._lock = threading.Lock()
            self.close()
        return _LockedReader(self)


@contextmanager
def _read(path: Path) -> Iterator[None]:
    """Turn an operating system error into a `CorpusError` about `path`."""
    try:
        yield
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror or error})") from None


@dataclass
class _LockedReader:
    """Context manager of a shard's open reader, for one thread at a time."""

    shard: Shard

    def __enter__(self) -> TokenReader | AnsReader:
        shard = self.shard
        shard._lock.acquire()
        try:
            if shard._reader is None:
                packed = ".ans" in shard.files.bytes
                path = shard.path(".ans" if packed else ".tok")
                with _read(path):  # TokenReader raises errors of its own
                    shard._reader = AnsReader(path) if packed else TokenReader(path)
            return shard._reader
        except BaseException:
            shard._lock.release()
            raise

    def __exit__(self, *_: object) -> None:
        self.shard._lock.release()
