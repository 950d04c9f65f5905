"""The Ogg container (RFC 3533): the links of a chained file, and whether a link is complete.

A chained file holds recordings one after the other, as `cat a.opus b.opus` and internet radio
produce them; each link begins with pages marked as beginnings, and has its own serial numbers.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

PAGE = 65307  # bytes of the longest page
HEADER = 27  # bytes of a page before its table of segments
BEGINS, ENDS = 2, 4  # flags of a page


def is_ogg(path: str) -> bool:
    """Return whether a file begins with the magic bytes of Ogg."""
    with Path(path).open("rb") as file:
        return file.read(4) == b"OggS"


def is_chained(path: str) -> bool:
    """Return whether the serial numbers of the first and the last page differ.

    Links that share a serial number, which the standard forbids, are missed; `links` finds them.
    """
    with Path(path).open("rb") as file:
        head = file.read(HEADER)
        tail = _tail(file, Path(path).stat().st_size)
    last = tail[tail.rfind(b"OggS") :]
    return len(last) >= HEADER and last[14:18] != head[14:18]


def links(path: str) -> list[tuple[int, int]]:
    """Return the first byte of each link and the byte after it, by the headers of the pages."""
    starts: list[int] = []
    with (
        Path(path).open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        size, at, beginning = len(data), 0, False
        while at + HEADER <= size:
            if data[at : at + 4] != b"OggS":
                at = data.find(b"OggS", at)
                if at < 0:
                    break
                continue
            begins = bool(data[at + 5] & BEGINS)
            if begins and not beginning:
                starts.append(at)
            beginning = begins
            body = at + HEADER + data[at + 26]
            after = body + sum(data[at + HEADER : body])
            if after < size and data[after : after + 4] != b"OggS":  # a page that was cut
                after = data.find(b"OggS", at + 4)
            if after < 0:
                break
            at = after
    starts = starts or [0]
    starts[0] = 0
    return list(zip(starts, [*starts[1:], size], strict=True))


def is_whole(path: str, first: int = 0, last: int | None = None) -> bool:
    """Return whether a link ends with a complete page.

    Anything may follow a page that is marked as the last. Some writers never set the mark (sphn,
    with which moshi writes; recorders that were stopped): then nothing may follow the page.

    Args:
        path: the file.
        first: the first byte of the link.
        last: the byte after the link; None for the end of the file.
    """
    last = Path(path).stat().st_size if last is None else last
    with Path(path).open("rb") as file:
        tail = _tail(file, last, first)
    page = tail[tail.rfind(b"OggS") :]
    if len(page) < HEADER:
        return False
    length = HEADER + page[26] + sum(page[HEADER : HEADER + page[26]])
    return len(page) >= length if page[5] & ENDS else len(page) == length


def _tail(file: Any, last: int, first: int = 0) -> bytes:
    """Return the last bytes before `last`, enough for two pages."""
    start = max(first, last - 2 * PAGE)
    file.seek(start)
    return file.read(last - start)
