"""Sizes and times of the files that were encoded, by which a change is noticed.

    .inputs    magic 8 | CRC 4 | chain 16 | a record of dtype `INPUT` for each item of the listing

It is not of the corpus: nothing of what the codes are follows from it, and it may be deleted.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

INPUTS = ".inputs"
INPUT = np.dtype([("bytes", "<i8"), ("time", "<i8")])  # nanoseconds
MAGIC, HEAD = b"\x93ATINP1\n", struct.Struct("<8sI16s")


class Look(NamedTuple):
    """Size and time of a file, which cost nothing to ask for."""

    bytes: int = -1  # -1: not known, as of what is no file here; -2: it was not there
    time: int = 0  # of its last change, nanoseconds


UNSEEN, MISSING = Look(), Look(-2)


def look(path: str) -> Look:
    """Look at a file; at a URL, or at no path, nothing can be seen."""
    if not path or "://" in path:
        return UNSEEN
    try:
        found = Path(path).stat()
    except FileNotFoundError:
        return MISSING
    except (OSError, ValueError):
        return UNSEEN
    return Look(found.st_size, found.st_mtime_ns)


def changes(before: Look, now: Look) -> str:
    """Say how a file has changed; "" if it has not, as far as that can be seen."""
    if UNSEEN in (before, now) or before == now:
        return ""
    if MISSING in (before, now):
        return "was not there" if before == MISSING else "is gone"
    if before.bytes != now.bytes:
        return f"{before.bytes:,} bytes, now {now.bytes:,}"
    return "written again"


def inputs_bytes(chain: str, looks: Iterable[Look]) -> bytes:
    """Return the content of an `INPUTS` file.

    Args:
        chain: hash of all items, 16 characters at most.
        looks: of each item, in order.
    """
    rest = chain.encode().ljust(16) + np.array([tuple(each) for each in looks], INPUT).tobytes()
    return HEAD.pack(MAGIC, zlib.crc32(rest), rest[:16]) + rest[16:]


def read_inputs(path: Path) -> tuple[str, list[Look]] | None:
    """Read an `INPUTS` file; None: it is not there, or damaged."""
    try:
        data = path.read_bytes()
        magic, crc, chain = HEAD.unpack_from(data)
    except (OSError, struct.error):
        return None
    records = data[HEAD.size :]
    if magic != MAGIC or zlib.crc32(chain + records) != crc or len(records) % INPUT.itemsize:
        return None
    looks = [Look(*each) for each in np.frombuffer(records, INPUT).tolist()]
    return chain.decode("ascii", "replace").rstrip(), looks


def inputs_damage(folder: Path) -> str:
    """Say whether the `INPUTS` file of a corpus is damaged; "" if it is whole, or not there."""
    path = folder / INPUTS
    sound = not path.exists() or read_inputs(path) is not None
    return "" if sound else f"{INPUTS}: damaged; delete it (changed recordings go unnoticed then)"
