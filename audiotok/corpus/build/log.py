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
from typing import Any, NamedTuple

import numpy as np

from audiotok.tokens.format import explained

TAG, HEAD = b"REC:", struct.Struct("<4sIII")
SYNC = 2.0  # seconds between flushes to the disk


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
            if time.monotonic() > self._synced + SYNC:
                os.fsync(self._file.fileno())
                self._synced = time.monotonic()

    def close(self) -> None:
        """Flush the log to the disk and close it."""
        with explained(self.path, "write"):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()


def records(path: Path) -> Iterator[tuple[Record, int]]:
    """Yield the sound records of a log, each with the offset of its end in bytes."""
    if not path.is_file():
        return
    end = 0
    with path.open("rb") as file:
        while len(head := file.read(HEAD.size)) == HEAD.size:
            tag, crc, text, codes = HEAD.unpack(head)
            data = file.read(text + codes) if tag == TAG else b""
            if len(data) != text + codes or zlib.crc32(head[8:] + data) != crc:
                return
            end += HEAD.size + len(data)
            facts = json.loads(data[:text].decode("utf-8", "surrogateescape"))
            decoded = None
            if "shape" in facts:
                decoded = np.frombuffer(data, facts.pop("type"), offset=text)
                decoded = decoded.reshape(facts.pop("shape"))
            yield Record(facts, decoded), end
