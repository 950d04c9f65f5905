"""Write-ahead log of a build: an append-only file of outcomes that are not yet in a shard.

    record   "REC:" | CRC 4 | length of JSON 4 | length of codes 4 | JSON | codes

The CRC covers everything after it. A torn or damaged record ends the log: it and all records after
it are ignored.
"""

from __future__ import annotations

import json
import os
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from audiotok.corpus.storage import INNER, Storage
from audiotok.tokens.errors import explained

TAG, HEAD = b"REC:", struct.Struct("<4sIII")
SYNC = 2.0  # seconds between flushes to the disk
SEGMENT = 4 << 20  # bytes of a segment, or a little more
SEGMENT_SYNC = 5.0  # seconds between segments
TOGETHER = 16  # segments read together


class Record(NamedTuple):
    """Outcome of a recording: facts, and its codes `[k f]` (None if it failed)."""

    facts: dict[str, Any]
    codes: np.ndarray | None


class Log:
    """Log opened for appending, cut to its sound records.

    Args:
        path: the file.
        whole: number of bytes of sound records.

    Raises:
        TokenFileError: the file cannot be written.
    """

    def __init__(self, path: Path, whole: int) -> None:
        self.path = path
        with explained(path, "write"):
            self._file = path.open("ab")
            self._file.truncate(whole)
            self._file.seek(whole)
        self._synced = time.monotonic()

    def _flushes(self) -> bool:
        """Return whether it is time to flush to the disk."""
        return time.monotonic() > self._synced + SYNC

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()

    def append(self, record: Record) -> None:
        """Add a record, which stays even if this process is killed right after."""
        facts, codes = record
        data = b""
        if codes is not None:
            facts = facts | {"type": codes.dtype.str, "shape": codes.shape}
            data = codes.tobytes()
        text = json.dumps(facts, ensure_ascii=False).encode("utf-8", "surrogateescape")
        rest = struct.pack("<II", len(text), len(data)) + text + data
        with explained(self.path, "write"):
            self._file.write(TAG + struct.pack("<I", zlib.crc32(rest)) + rest)
            self._file.flush()
            if self._flushes():
                self._sync()

    def close(self) -> None:
        """Flush the log to the disk and close it."""
        with explained(self.path, "write"):
            try:
                self._sync()
            finally:
                self._file.close()


class SegmentedLog(Log):
    """Log in object storage, to which nothing can be appended: its file is stored in segments.

    A segment is an object of the log's name and the segment's offset in bytes,
    `.build/000002.log.000000004096`; it is stored some seconds or megabytes after the one before.

    Args:
        storage: the object storage.
        name: name of the log.
        whole: number of bytes of sound records.

    Raises:
        StorageError: a segment cannot be stored.
    """

    def __init__(self, storage: Storage, name: str, whole: int) -> None:
        super().__init__(storage.path(name), whole)
        self.storage = storage
        self.name = name
        self._stored = whole

    def _flushes(self) -> bool:
        waits = self._file.tell() - self._stored
        return waits > SEGMENT or time.monotonic() > self._synced + SEGMENT_SYNC

    def _sync(self) -> None:
        self._file.flush()
        with self.path.open("rb") as file:
            file.seek(self._stored)
            data = file.read()
        if data:
            self.storage.publish(f"{self.name}.{self._stored:012d}", data)
        self._stored += len(data)
        self._synced = time.monotonic()


def open_log(storage: Storage, name: str, whole: int) -> Log:
    """Open a log for appending, cut to its sound records."""
    if storage.remote:
        return SegmentedLog(storage, name, whole)
    return Log(storage.path(name), whole)


def cut_log(storage: Storage, name: str, whole: int) -> None:
    """Remove the segments after the sound records of a log; a file is cut when it is opened."""
    if storage.remote:
        begin = f"{name}.{whole:012d}"
        storage.delete(each for each in _segments(storage, name) if each >= begin)


def restore_log(storage: Storage, name: str) -> None:
    """Put the segments of a log together in its file on this machine; a folder has the file."""
    if not storage.remote:
        return
    segments = _segments(storage, name)
    with storage.path(name).open("wb") as file:
        for first in range(0, len(segments), TOGETHER):
            content = storage.read_all(segments[first : first + TOGETHER])
            for segment, data in sorted(content.items()):
                offset = int(segment.rpartition(".")[2])
                if offset > file.tell():  # one before it is missing
                    return
                file.seek(offset)
                file.truncate()
                file.write(data)


def drop_log(storage: Storage, name: str) -> None:
    """Remove a log."""
    storage.path(name).unlink(missing_ok=True)
    if storage.remote:
        storage.delete(_segments(storage, name))


def logs(storage: Storage) -> list[str]:
    """Return the names of all logs, in order."""
    names = (name.partition(".log") for name in storage.lengths(INNER))
    return sorted({f"{stem}.log" for stem, log, _ in names if log})


def _segments(storage: Storage, name: str) -> list[str]:
    return sorted(each for each in storage.lengths(INNER) if each.startswith(f"{name}."))


def records(path: Path) -> Iterator[tuple[Record, int]]:
    """Yield the sound records of a log, each with the offset of its end in bytes."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        while (record := _next_record(file)) is not None:
            yield record, file.tell()


def record_at(path: Path, offset: int) -> Record | None:
    """Return the record that begins at an offset in bytes; None if it is not sound."""
    with path.open("rb") as file:
        file.seek(offset)
        return _next_record(file)


def _next_record(file: IO[bytes]) -> Record | None:
    """Read the next record; None at the end, or if it is torn or damaged."""
    head = file.read(HEAD.size)
    if len(head) != HEAD.size:
        return None
    tag, crc, text, codes = HEAD.unpack(head)
    data = file.read(text + codes) if tag == TAG else b""
    if len(data) != text + codes or zlib.crc32(head[8:] + data) != crc:
        return None
    facts = json.loads(data[:text].decode("utf-8", "surrogateescape"))
    if "shape" not in facts:
        return Record(facts, None)
    decoded = np.frombuffer(data, facts.pop("type"), offset=text)
    return Record(facts, decoded.reshape(facts.pop("shape")))
