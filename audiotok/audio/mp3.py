"""MPEG audio on the level of bytes: frame headers, tags, and where each recording of a file is."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

WINDOW, SCANNED = 1 << 13, 1 << 20  # bytes searched for a frame: at first, and at most
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_KBPS = {  # (whether it is MPEG 1, layer) -> kbit/s of index 1, 2 ...
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


class Frame(NamedTuple):
    """The facts in a frame's header."""

    kind: tuple[int, int, int]  # version, layer, rate in Hz; equal in all frames of a recording
    channels: int
    size: int  # bytes; 0 for free format, whose frames do not give it


def frame(header: bytes) -> Frame | None:
    """Read the four bytes of a frame's header; return None if they are not one."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    kbps, rate, padding = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if version == 1 or layer == 4 or kbps == 15 or rate == 3:
        return None
    hertz = _RATES[version][rate]
    size = 0
    if kbps:
        bits = _KBPS[version == 3, layer][kbps - 1] * 1000
        slots = {1: 12, 2: 144, 3: 144 if version == 3 else 72}[layer]
        size = (slots * bits // hertz + padding) * (4 if layer == 1 else 1)
    return Frame((version, layer, hertz), 1 if header[3] >> 6 == 3 else 2, size)


class Mp3Start(NamedTuple):
    """The position in a file at which a recording begins."""

    at: int  # the first byte of its first frame
    free: bool  # whether it is of free format, which cannot be read from a pipe
    end: int | None  # the byte after it by its Xing or Info tag; None without one


def next_start(path: str, at: int, last: int) -> Mp3Start | None:
    """Find the next recording: a frame that is followed by another one of its kind.

    ID3 and APE tags before it are skipped.

    Args:
        path: the file.
        at: the byte to begin at.
        last: the byte to end before.

    Returns:
        None if there is none.
    """
    if last - at < 4:
        return None
    offset, data = None, b""
    with Path(path).open("rb") as file:
        while at < last:
            file.seek(at)
            length = _tag(file.read(min(32, last - at)))
            if not length:
                break
            at += length
        for most in (WINDOW, SCANNED):  # the frame nearly always begins at the first byte
            file.seek(at)
            data = file.read(max(0, min(most, last - at)))
            offset = _first_of_two(data, whole=at + len(data) == last)
            if offset is not None or len(data) < most:
                break
        if offset is None:
            return None
        file.seek(at + offset)
        data = file.read(200)
    return Mp3Start(at + offset, not _frame_at(data).size, _promised_end(data, at + offset))


def _frame_at(data: bytes) -> Frame:
    """Return the frame at the start of bytes that are known to begin with one."""
    header = frame(data)
    assert header is not None
    return header


def _first_of_two(data: bytes, *, whole: bool) -> int | None:
    """Return the offset of the first frame that another one of its kind follows.

    With `whole`, the data go to the end of the file, and a frame that ends there counts too.
    """
    offset = data.find(b"\xff")
    while offset >= 0:
        header = frame(data[offset : offset + 4])
        if header:
            after = offset + header.size
            following = frame(data[after : after + 4])
            last = whole and after == len(data)
            if not header.size or last or (following and following.kind == header.kind):
                return offset
        offset = data.find(b"\xff", offset + 1)
    return None


def _promised_end(data: bytes, at: int) -> int | None:
    """Return the byte after a recording that begins at `at`, by the tag in its first frame."""
    header = _frame_at(data)
    mono, mpeg1 = header.channels == 1, header.kind[0] == 3
    side = (17 if mono else 32) if mpeg1 else (9 if mono else 17)
    tag = data[4 + side : 4 + side + 16]
    if tag[:4] not in (b"Xing", b"Info") or len(tag) < 16:
        return None
    frames, size = tag[7] & 1, tag[7] & 2
    offset = 12 if frames else 8
    return at + struct.unpack(">I", tag[offset : offset + 4])[0] if size else None


def _tag(data: bytes) -> int:
    """Return the length in bytes of the ID3 or APE tag at the start of the data; 0 without one."""
    if data[:3] == b"ID3" and len(data) >= 10:
        size = 0
        for byte in data[6:10]:
            size = size << 7 | byte & 127
        return 10 + size + (10 if data[5] & 16 else 0)
    if data[:3] == b"TAG":
        return 128
    if data[:8] == b"APETAGEX" and len(data) >= 24:
        size, _, flags = struct.unpack("<III", data[12:24])
        return 32 + size if flags >> 29 & 1 else 32
    return 0
