"""Raw PCM, as pipes and sockets carry it: bytes to samples and back; needs numpy only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from io import BufferedIOBase

import numpy as np

from audiotok._platform.errors import Error
from audiotok.audio.levels import check_level

FORMATS = {"s16le": np.dtype("<i2"), "f32le": np.dtype("<f4")}  # by ffmpeg's names
READ = 1 << 15  # bytes read at most at a time: about a second of 16-bit audio at 16 kHz


class PcmError(Error, ValueError):
    """Error of bytes that are not samples of the given encoding."""


def to_samples(data: bytes, encoding: str, channels: int = 1) -> np.ndarray:
    """Return bytes of interleaved PCM as samples `[c t]` float32; integers are scaled to -1..1.

    Args:
        data: a whole number of samples of all channels.
        encoding: a key of `FORMATS`.
        channels: number of interleaved channels.

    Raises:
        PcmError: not a whole number of samples, or a sample that is not finite, or as large as an
            unscaled integer.
    """
    kind = FORMATS[encoding]
    if len(data) % (kind.itemsize * channels):
        raise PcmError(f"{len(data)} bytes are no whole number of {channels} x {encoding} samples")
    raw = np.frombuffer(data, kind).reshape(-1, channels).T
    if kind.kind == "i":
        return np.ascontiguousarray(raw, np.float32) / 32768
    if not np.isfinite(raw).all():
        raise PcmError("a sample is not a finite number")
    if raw.size:
        try:
            check_level(float(raw.min()), float(raw.max()))
        except ValueError as error:
            raise PcmError(str(error)) from None
    return np.array(raw, np.float32, order="C")


def to_bytes(samples: np.ndarray, encoding: str) -> bytes:
    """Return samples `[c t]` float32 as interleaved PCM; 16-bit samples are rounded and clipped.

    Args:
        samples: full scale is 1.
        encoding: a key of `FORMATS`.
    """
    if FORMATS[encoding].kind == "i":
        samples = (samples * 32768).round().clip(-32768, 32767)
    return np.ascontiguousarray(samples.T).astype(FORMATS[encoding]).tobytes()


class PcmReader:
    """Reader of raw PCM from a pipe, piece by piece as it arrives.

    Attributes:
        samples: number of samples a channel read so far.

    Args:
        file: binary and buffered.
        encoding: a key of `FORMATS`.
        channels: number of interleaved channels.
        rate: sample rate in Hz, for messages.
        name: the pipe, for messages.
        around: returns a context in which to wait for bytes, e.g. one that allows Ctrl-C.
    """

    def __init__(
        self,
        file: BufferedIOBase,
        encoding: str,
        *,
        channels: int = 1,
        rate: int = 16000,
        name: str = "stdin",
        around: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._file = file
        self._encoding = encoding
        self._channels = channels
        self._rate = rate
        self.name = name
        self._around = around
        self.samples = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield the samples `[c t]` float32 that are available, waiting for at least one.

        Raises:
            PcmError: a file with a header, half a sample at the end, or a non-finite sample.
        """
        unit = FORMATS[self._encoding].itemsize * self._channels
        buffer = b""
        while True:
            with self._around():
                data = self._file.read1(READ)
            if not data:
                break
            buffer += data
            if not self.samples and buffer[:4] in (b"RIFF", b"fLaC", b"OggS"):
                raise PcmError(
                    f"{self.name}: a file with a header, not raw PCM: put `ffmpeg -i - -ac "
                    f"{self._channels} -ar {self._rate} -f {self._encoding} -` before it"
                )
            whole = len(buffer) // unit * unit
            ready, buffer = buffer[:whole], buffer[whole:]
            if ready:
                try:
                    piece = to_samples(ready, self._encoding, self._channels)
                except PcmError as error:
                    at = self.samples / self._rate
                    raise PcmError(f"{self.name}: {error} (after {at:.2f} s)") from None
                self.samples += piece.shape[1]
                yield piece
        if buffer:
            raise PcmError(
                f"{self.name}: {len(buffer)} bytes at the end are no whole sample of "
                f"{self._channels} x {self._encoding}: cut short, or of another format"
            )
