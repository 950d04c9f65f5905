"""Sizes and times of the encoded files, by which changed files are noticed.

    .inputs    magic 8 | CRC 4 | chain 16 | a record of dtype `INPUT` for each item of the listing

The file is no part of the corpus: the codes do not depend on it, and it may be deleted.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np

from audiotok.corpus.storage import Storage

INPUTS = ".inputs"
INPUT = np.dtype([("bytes", "<i8"), ("time", "<i8")])  # nanoseconds
MAGIC, HEAD = b"\x93ATINP1\n", struct.Struct("<8sI16s")


class FileStamp(NamedTuple):
    """Size and time of the last change of a file."""

    bytes: int = -1  # -1: not known, as for a URL; -2: the file was missing
    time: int = 0  # time of the last change, nanoseconds


UNSEEN, MISSING = FileStamp(), FileStamp(-2)


class FileStamps(Sequence[FileStamp]):
    """Stamps of many files, of 16 bytes each where objects would take ten times as many.

    Args:
        records: `[n]` of dtype `INPUT`.
    """

    def __init__(self, records: np.ndarray) -> None:
        self.records = records

    def __len__(self) -> int:
        return len(self.records)

    @overload
    def __getitem__(self, index: int) -> FileStamp: ...
    @overload
    def __getitem__(self, index: slice) -> FileStamps: ...
    def __getitem__(self, index: int | slice) -> FileStamp | FileStamps:
        if isinstance(index, slice):
            return FileStamps(self.records[index])
        return FileStamp(*self.records[index].tolist())

    @classmethod
    def unseen(cls, count: int) -> FileStamps:
        """Return the stamps of so many files of which nothing is known."""
        return cls(np.full(count, tuple(UNSEEN), INPUT))


def look(path: str) -> FileStamp:
    """Return the stamp of a file; that of a URL, or of no path, is `UNSEEN`."""
    if not path or "://" in path:
        return UNSEEN
    try:
        status = Path(path).stat()
    except FileNotFoundError:
        return MISSING
    except (OSError, ValueError):
        return UNSEEN
    return FileStamp(status.st_size, status.st_mtime_ns)


def changes(before: FileStamp, now: FileStamp) -> str:
    """Return a description of how a file has changed; "" if it has not, or that is not known."""
    if UNSEEN in (before, now) or before == now:
        return ""
    if MISSING in (before, now):
        return "was not there" if before == MISSING else "is gone"
    if before.bytes != now.bytes:
        return f"{before.bytes:,} bytes, now {now.bytes:,}"
    return "written again"


def inputs_bytes(chain: str, looks: FileStamps) -> bytes:
    """Return the content of an `INPUTS` file.

    Args:
        chain: hash of all items, 16 characters at most.
        looks: stamp of each item's file, in order.
    """
    rest = chain.encode().ljust(16) + looks.records.tobytes()
    return HEAD.pack(MAGIC, zlib.crc32(rest), rest[:16]) + rest[16:]


def read_inputs(storage: Storage, name: str = INPUTS) -> tuple[str, FileStamps] | None:
    """Read an `INPUTS` file.

    Returns:
        The hash of all items and the stamp of each item's file; None if the file is missing or
        damaged.
    """
    return parse_inputs(storage.read_all([name]).get(name, b""))


def parse_inputs(data: bytes) -> tuple[str, FileStamps] | None:
    """Return the content of an `INPUTS` file, as `read_inputs` does; None if it is damaged."""
    try:
        magic, crc, chain = HEAD.unpack_from(data)
    except struct.error:
        return None
    records = data[HEAD.size :]
    if magic != MAGIC or zlib.crc32(chain + records) != crc or len(records) % INPUT.itemsize:
        return None
    return chain.decode("ascii", "replace").rstrip(), FileStamps(np.frombuffer(records, INPUT))


def inputs_damage(storage: Storage) -> str:
    """Return the fault of a corpus's `INPUTS` file; "" if it is sound or missing."""
    sound = not storage.exists(INPUTS) or read_inputs(storage) is not None
    return "" if sound else f"{INPUTS}: damaged; delete it (changed recordings go unnoticed then)"
