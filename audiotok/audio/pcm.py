"""Raw PCM, as it comes through pipes and sockets: bytes to samples and back, with numpy alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from io import BufferedIOBase

import numpy as np

from audiotok.audio.levels import checked_level

FORMATS = {"s16le": np.dtype("<i2"), "f32le": np.dtype("<f4")}  # as ffmpeg calls them
READ = 1 << 15  # bytes at most in one piece: a second of 16 kHz


class PcmError(ValueError):
    """Bytes that are not the samples they were said to be."""


def to_samples(data: bytes, encoding: str, channels: int = 1) -> np.ndarray:
    """Samples [c t] float32 of whole interleaved ones; 16-bit ones are in -1..1.

    Raises:
        PcmError: not a whole number of samples, or one that is not a finite number, or of the
            size of an integer.
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
            checked_level(float(raw.min()), float(raw.max()))
        except ValueError as error:
            raise PcmError(str(error)) from None
    return np.array(raw, np.float32, order="C")


def to_bytes(samples: np.ndarray, encoding: str) -> bytes:
    """The bytes of samples [c t] float32, interleaved; 16-bit ones are rounded, and clipped."""
    if FORMATS[encoding].kind == "i":
        samples = (samples * 32768).round().clip(-32768, 32767)
    return np.ascontiguousarray(samples.T).astype(FORMATS[encoding]).tobytes()


class PcmReader:
    """Samples of a pipe as they come.

    Attributes:
        samples: how many have come.

    Args:
        file: binary and buffered.
        encoding: a key of `FORMATS`.
        channels: interleaved in the bytes.
        rate: Hz, for messages.
        name: for messages.
        around: entered while it waits.
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
        self._file, self._encoding, self._channels = file, encoding, channels
        self._rate, self._name, self._around = rate, name, around
        self.samples = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        """Pieces [c t] float32, each what was there.

        Raises:
            PcmError: a WAV file, half a sample at the end, or a sample that is no number.
        """
        unit = FORMATS[self._encoding].itemsize * self._channels
        held = b""
        while True:
            with self._around():
                data = self._file.read1(READ)
            if not data:
                break
            held += data
            if not self.samples and held[:4] in (b"RIFF", b"fLaC", b"OggS"):
                raise PcmError(
                    f"{self._name}: a file with a header, not raw PCM: put `ffmpeg -i - -ac "
                    f"{self._channels} -ar {self._rate} -f {self._encoding} -` before it"
                )
            whole = len(held) // unit * unit
            now, held = held[:whole], held[whole:]
            if now:
                try:
                    piece = to_samples(now, self._encoding, self._channels)
                except PcmError as error:
                    at = self.samples / self._rate
                    raise PcmError(f"{self._name}: {error} (after {at:.2f} s)") from None
                self.samples += piece.shape[1]
                yield piece
        if held:
            raise PcmError(
                f"{self._name}: {len(held)} bytes at the end are no whole sample of "
                f"{self._channels} x {self._encoding}: cut short, or of another format"
            )
