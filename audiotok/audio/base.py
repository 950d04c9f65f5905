"""Types that all decoders of audio files share: the open recording, and errors that name a file."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from audiotok._platform.errors import Error

CHUNK = 16384  # samples decoded at a time; at most so many are lost before damage in a file


class AudioFileError(Error, ValueError):
    """Error of an unreadable or unwritable audio file: one line with its name and a remedy."""


def is_utf8(path: str | os.PathLike[str]) -> bool:
    """Return whether the bytes of a path are UTF-8, as text and JSON need them."""
    return all(not 0xD800 <= ord(letter) < 0xE000 for letter in os.fspath(path))


def soundfile_path(path: str | os.PathLike[str]) -> Any:
    """Return a path as soundfile opens it: as bytes if it is not UTF-8."""
    return os.fspath(path) if is_utf8(path) else os.fsencode(path)


@dataclass
class Decoder:
    """An open recording: the facts of its header, and its samples in order.

    Attributes:
        name: the file, for messages.
        rate: sample rate in Hz.
        channels: number of channels.
        samples: length of the whole recording; None where the header does not say.
        first: index of the first sample that `chunks` gives.
        chunks: float32 `[t c]`; raises AudioFileError where the file is cut.
        integers: whether the file holds integers, so that all samples are in -1..1.
    """

    name: str
    rate: int
    channels: int
    samples: int | None
    first: int
    chunks: Iterator[np.ndarray]
    integers: bool = False


def cut_off(name: str, samples: int, rate: int, why: str) -> AudioFileError:
    """Return the error of a file that ends, or cannot be decoded, after so many samples.

    Args:
        name: the file.
        samples: samples that were decoded.
        rate: sample rate in Hz.
        why: the reason, for the message.
    """
    seconds, way = _readable(samples, rate)
    return AudioFileError(f"{name}: truncated or damaged after {seconds:.2f} s ({why}); {way}")


def joined(
    name: str, samples: int, before: tuple[int, int], after: tuple[int, int]
) -> AudioFileError:
    """Return the error of a file in which a recording of another rate or channel count follows.

    Args:
        name: the file.
        samples: samples of the first recording.
        before: rate in Hz and channels of the first recording.
        after: rate in Hz and channels of the next one.
    """
    seconds, way = _readable(samples, before[0])
    one, other = (f"{rate} Hz with {channels} channels" for rate, channels in (before, after))
    return AudioFileError(
        f"{name}: recordings of different kinds joined into one file: {one}, and from "
        f"{seconds:.2f} s on {other}; take it apart, or {way}"
    )


def _readable(samples: int, rate: int) -> tuple[float, str]:
    """Return the seconds that can be read of a file, and the advice on how to go on."""
    seconds = samples * 100 // rate / 100  # rounded down, so that reading to there succeeds
    way = f"Audio.load(path, end={seconds:.2f}) reads that part" if seconds else "get it anew"
    return seconds, way


class FileView(io.RawIOBase):
    """A read-only view of a range of a file's bytes, with some of them replaced.

    Args:
        path: the file.
        first: the first byte of the range.
        last: the byte after the range; None for the end of the file.
        patches: offset in the view -> bytes to read there instead.
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
        self._first = first
        self._patches = dict(patches or {})
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
        for offset, patch in self._patches.items():
            low, high = max(offset, self._at), min(offset + len(patch), self._at + len(data))
            if low < high:
                data[low - self._at : high - self._at] = patch[low - offset : high - offset]
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
