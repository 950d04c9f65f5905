"""Headers of WAV, CAF and SPHERE, for cases that libsndfile does not handle.

Programs that write to a pipe, and recorders that were stopped, leave sizes of 0 or of the largest
number that fits: the samples then extend to the end of the file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_UNKNOWN = range(0x7FFFF000, 0x100000000)  # placeholders for a size that was not known
_PLAIN = (1, 3, 6, 7, 0xFFFE)  # PCM, float, A-law, mu-law, extensible: libsndfile reads them all
SLACK = 8  # bytes that a size may be wrong by: padding, or a header that was counted


class Chunk(NamedTuple):
    """A chunk of a RIFF or CAF file."""

    name: bytes
    at: int  # offset of its content's first byte
    size: int  # bytes of content by its header


def magic(path: str) -> bytes:
    """Return the first four bytes of a file."""
    with Path(path).open("rb") as file:
        return file.read(4)


def wav_data(path: str) -> Chunk | None:
    """Return the chunk that holds the samples of a WAV file, or None if there is none."""
    return next((chunk for chunk in _riff(path) if chunk.name == b"data"), None)


def unwritten_sizes(path: str) -> dict[int, bytes] | None:
    """Return corrections for sizes in the header that were never written.

    Returns:
        Offset -> bytes to read there instead, for `FileView`; None where no size is missing.
    """
    size = Path(path).stat().st_size
    kind = magic(path)
    if kind == b"RIFF":
        data = wav_data(path)
        with Path(path).open("rb") as file:
            file.seek(4)
            whole = int.from_bytes(file.read(4), "little")
        if data is None or data.size or size <= data.at or abs(whole + 8 - size) <= 1:
            return None  # the file has the length in its header, so its other sizes are right too
        return {data.at - 4: struct.pack("<I", min(size - data.at, 0xFFFFFFFF))}
    if kind == b"caff":
        for chunk in _caf(path):
            if chunk.name == b"data" and chunk.size == -1:
                return {chunk.at - 8: struct.pack(">q", size - chunk.at)}
    return None


def has_uncommon_codec(path: str) -> bool:
    """Return whether a WAV file holds a codec other than PCM, float, A-law and mu-law."""
    for chunk in _riff(path):
        if chunk.name == b"fmt ":
            with Path(path).open("rb") as file:
                file.seek(chunk.at)
                return int.from_bytes(file.read(2), "little") not in _PLAIN
    return False


def is_cut_wav(path: str) -> bool:
    """Return whether a WAV file is shorter than the samples that its header announces."""
    data = wav_data(path)
    if data is None or data.size in _UNKNOWN:
        return False
    return data.at + data.size > Path(path).stat().st_size + SLACK


def is_shortened(path: str) -> bool:
    """Return whether a file is SPHERE compressed by Shorten, as in corpora of the LDC."""
    with Path(path).open("rb") as file:
        head = file.read(1024)
    return head.startswith(b"NIST_1A") and b"embedded-shorten" in head


def _riff(path: str) -> Iterator[Chunk]:
    """Yield the chunks of a WAV file; none if it is another kind of file."""
    with Path(path).open("rb") as file:
        head = file.read(12)
        if head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":
            return
        at = 12
        while len(head := file.read(8)) == 8:
            chunk = Chunk(head[:4], at + 8, int.from_bytes(head[4:], "little"))
            yield chunk
            at = chunk.at + chunk.size + chunk.size % 2
            file.seek(at)


def _caf(path: str) -> Iterator[Chunk]:
    """Yield the chunks of a CAF file, up to one whose size was never written."""
    with Path(path).open("rb") as file:
        file.seek(8)
        at = 8
        while len(head := file.read(12)) == 12:
            chunk = Chunk(head[:4], at + 12, struct.unpack(">q", head[4:])[0])
            yield chunk
            if chunk.size < 0:
                return
            at = chunk.at + chunk.size
            file.seek(at)
