"""An open recording, and the error that names its file: shared by all readers of audio files."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

CHUNK = 16384  # samples decoded at a time; what is lost before the cut of a damaged file


class AudioFileError(ValueError):
    """An audio file that cannot be read or written; one line with its name and the way out."""


@dataclass
class Decoder:
    """An open recording: what its header says, and its samples in order."""

    name: str
    rate: int  # Hz
    channels: int
    samples: int | None  # in the whole recording; None where the header does not say
    first: int  # index of the first sample that `chunks` gives
    chunks: Iterator[np.ndarray]  # float32 [t c]; raises AudioFileError where the file is cut
    integers: bool = False  # whether the file holds integers, so that all samples are in -1..1


def cut_off(name: str, samples: int, rate: int, why: str) -> AudioFileError:
    """Return the error of a file that ends, or cannot be decoded, after so many samples."""
    seconds, way = _readable(samples, rate)
    return AudioFileError(f"{name}: truncated or damaged after {seconds:.2f} s ({why}); {way}")


def joined(
    name: str, samples: int, before: tuple[int, int], after: tuple[int, int]
) -> AudioFileError:
    """Return the error of a file that goes on with another rate or other channels.

    Args:
        name: of the file.
        samples: of the first part.
        before: its rate in Hz and its channels.
        after: those of what follows.
    """
    seconds, way = _readable(samples, before[0])
    one, other = (f"{rate} Hz with {channels} channels" for rate, channels in (before, after))
    return AudioFileError(
        f"{name}: recordings of different kinds joined into one file: {one}, and from "
        f"{seconds:.2f} s on {other}; take it apart, or {way}"
    )


def _readable(samples: int, rate: int) -> tuple[float, str]:
    seconds = samples * 100 // rate / 100  # rounded down: this much is there
    way = f"Audio.load(path, end={seconds:.2f}) reads that part" if seconds else "get it anew"
    return seconds, way


class FileView(io.RawIOBase):
    """Some of the bytes of a file as a file of its own, a few of them put right on the way.

    Args:
        path: the file.
        first: the first byte to show.
        last: the byte to end before; None: the end of the file.
        patches: offset in the view -> bytes to show there instead.
    """

    def __init__(
        self,
        path: str,
        first: int = 0,
        last: int | None = None,
        patches: Mapping[int, bytes] | None = None,
    ) -> None:
        super().__init__()
        self._file = Path(path).open("rb", buffering=0)  # noqa: SIM115 - closed by `close`
        self._first, self._patches = first, dict(patches or {})
        self._size = (Path(path).stat().st_size if last is None else last) - first
        self._at = 0

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()

    def readable(self) -> bool:
        """See `io.IOBase`."""
        return True

    def seekable(self) -> bool:
        """See `io.IOBase`."""
        return True

    def tell(self) -> int:
        """See `io.IOBase`."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """See `io.IOBase`."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        """See `io.RawIOBase`."""
        count = max(0, min(len(buffer), self._size - self._at))
        self._file.seek(self._first + self._at)
        data = bytearray(self._file.read(count))
        for offset, right in self._patches.items():
            low, high = max(offset, self._at), min(offset + len(right), self._at + len(data))
            if low < high:
                data[low - self._at : high - self._at] = right[low - offset : high - offset]
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
