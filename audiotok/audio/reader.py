"""Reading of a recording from a file in blocks, mixed down and resampled on the way."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from audiotok._platform.errors import InputError
from audiotok.audio import levels, resample_numpy
from audiotok.audio.decoders import CHUNK, AudioFileError, Decoder, open_decoder

if TYPE_CHECKING:
    from torch import Tensor


class Source:
    """A recording open for reading once, from front to back, in constant memory.

    It is a context manager; `open_audio` makes one.

    Attributes:
        name: the file, for messages.
        rate: sample rate of the file in Hz.
        channels: number of channels in the file.
        samples: number of samples that `blocks` gives at `rate`; None where the header does not
            say.
        read: number of samples read so far, at `rate`.

    Args:
        decoder: the open file.
        stack: owns everything that must be closed.
        first: the first sample to give.
        last: the sample after the last one to give; None for the end of the file.
        least: number of samples that the file must have if `last` is given.
    """

    def __init__(
        self,
        decoder: Decoder,
        stack: ExitStack,
        first: int = 0,
        last: int | None = None,
        least: int = 0,
    ):
        self.name = decoder.name
        self.rate = decoder.rate
        self.channels = decoder.channels
        self._decoder = decoder
        self._stack = stack
        self._first = first
        self._last = last
        self._least = least
        self.samples = decoder.samples
        self.read = 0
        if self.samples is not None:
            end = self.samples if last is None else min(last, self.samples)
            self.samples = max(0, end - first)

    def _check(self, piece: np.ndarray, at: int) -> None:
        """Raise unless samples `[c t]` from `at` on are finite, and not unscaled integers."""
        least, most = float(piece.min()), float(piece.max())  # NaN if there is one
        if not np.isfinite([least, most]).all():
            bad = at + int(np.flatnonzero((~np.isfinite(piece)).any(0))[0])
            raise AudioFileError(
                f"{self.name}: samples are NaN or infinite "
                f"(first at {bad / self.rate:.3f} s); mend the file or cut them out"
            )
        try:
            levels.check_level(least, most)
        except ValueError as error:
            raise AudioFileError(f"{self.name}: {error}") from None

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._stack.close()

    def blocks(
        self, samples: int = CHUNK, *, rate: int | None = None, mono: bool = False
    ) -> Iterator[Tensor]:
        """Return the blocks of `arrays` as tensors `[c t]`; see there for arguments and errors."""
        import torch

        return map(torch.from_numpy, self.arrays(samples, rate=rate, mono=mono))

    def arrays(
        self, samples: int = CHUNK, *, rate: int | None = None, mono: bool = False
    ) -> Iterator[np.ndarray]:
        """Return the recording in blocks `[c t]` float32 of `samples`, the last one shorter.

        Joined, they equal `Audio.load(...)`, then `.mono()`, then `.resample(rate)` bit for bit.

        Args:
            samples: number of samples in a block, counted at the output rate.
            rate: output rate in Hz; None for the rate of the file.
            mono: whether to mix the channels down to their mean.

        Raises:
            AudioFileError: the file is truncated or damaged, holds NaN or infinite samples or
                unscaled integers, or its channels cancel each other in their mean.
            ValueError: a block of no samples, or a rate without a useful factor in common.
        """
        if samples < 1:
            raise InputError(f"a block must have at least 1 sample, not {samples}")
        pieces = self._mixed() if mono and self.channels > 1 else self._pieces()
        if rate is not None and rate != self.rate:
            pieces = resampled(pieces, self.rate, rate, 1 if mono else self.channels)
        return _recut(pieces, samples)

    def _mixed(self) -> Iterator[np.ndarray]:
        """Yield the mean of the channels; raise at the end if they cancel each other."""
        before = after = 0.0
        for piece in self._pieces():
            mixed = mix(piece)
            before += levels.energy(piece) / self.channels
            after += levels.energy(mixed)
            yield mixed
        if levels.cancels(before, after):
            raise AudioFileError(f"{self.name}: {levels.CANCELS}")

    def _pieces(self) -> Iterator[np.ndarray]:
        """Yield the chunks of the decoder as `[c t]`, cut to the requested range and checked."""
        at = self._decoder.first
        for chunk in self._decoder.chunks:
            low = max(0, self._first - at)
            high = len(chunk) if self._last is None else min(len(chunk), self._last - at)
            if low < high:
                piece = np.ascontiguousarray(chunk[low:high].T)
                if not self._decoder.integers:
                    self._check(piece, at + low)
                self.read += piece.shape[1]
                yield piece
            at += len(chunk)
            if self._last is not None and at >= self._last:
                return
        if at < self._first:
            raise AudioFileError(
                f"{self.name}: asked for from {self._first / self.rate:.2f} s on, "
                f"but it ends at {at / self.rate:.2f} s"
            )
        self.check_end(at)

    def check_end(self, samples: int) -> None:
        """Raise `AudioFileError` if the file ends too long before the requested end.

        Args:
            samples: length of the file.
        """
        if samples < self._least and self._last is not None:
            raise AudioFileError(
                f"{self.name}: asked for to {self._last / self.rate:.2f} s, "
                f"but it ends at {samples / self.rate:.2f} s"
            )


def open_audio(
    path: str | os.PathLike[str],
    *,
    start: float | int | None = None,
    end: float | int | None = None,
    overshoot: float = math.inf,
) -> Source:
    """Open a file, or stdin for "-", to read it in blocks, whole or from `start` to `end`.

    >>> with open_audio("ten hours.flac") as source:
    ...     for block in source.blocks(16000, rate=16000, mono=True):
    ...         print(block.shape)

    Args:
        path: the file.
        start: seconds; None for the beginning. Rounded to the nearest sample, halves up.
        end: seconds; None for the end. Rounded alike.
        overshoot: seconds by which `end` may be past the end of the audio.

    Raises:
        AudioFileError: the file is missing, empty, not audio, has a damaged header, or ends before
            `end`; where the header does not give the length, reading the blocks raises that.
        ValueError: `start` is negative or after `end`.
    """
    begin = start or 0.0
    if begin < 0 or (end is not None and end < begin):
        raise InputError(f"cannot read from {begin} s to {end} s")
    stack = ExitStack()
    try:
        decoder = open_decoder(path, stack, start=begin)
        last = None if end is None else sample_at(end, decoder.rate)
        least = 0 if end is None else math.ceil(max(0.0, end - overshoot) * decoder.rate - 1e-6)
        source = Source(decoder, stack, sample_at(begin, decoder.rate), last, least)
        if decoder.samples is not None:
            source.check_end(decoder.samples)
    except BaseException:
        stack.close()
        raise
    return source


def sample_at(seconds: float, rate: int) -> int:
    """Return the sample at a time, halves rounded up as in Kaldi and lhotse."""
    return math.floor(round(seconds * rate, 8) + 0.5)


def resampled(
    pieces: Iterable[np.ndarray], old: int, new: int, channels: int
) -> Iterator[np.ndarray]:
    """Yield pieces `[c t]` at `old` Hz resampled to `new` Hz.

    Raises:
        ValueError: rates that share no useful factor.
    """
    # By numpy also where torch is installed, so that samples do not depend on what is.
    resampler = resample_numpy.NumpyResampler(old, new, channels)
    yield from map(resampler.step, pieces)
    yield resampler.finish()


def _recut(pieces: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Yield the same samples in pieces of `size`, the last one shorter."""
    waiting: list[np.ndarray] = []
    buffered = 0
    for piece in pieces:
        waiting.append(piece)
        buffered += piece.shape[1]
        if buffered >= size:
            joined = np.concatenate(waiting, 1)
            full = joined.shape[1] // size * size
            for at in range(0, full, size):
                yield joined[:, at : at + size]
            waiting, buffered = [joined[:, full:]], joined.shape[1] - full
    if buffered:
        yield np.concatenate(waiting, 1)


Samples = TypeVar("Samples")  # an array or a tensor


def mix(samples: Samples) -> Samples:
    """Return the mean `[1 t]` of the channels `[c t]`.

    Each sample depends on its own time only, so mixing in blocks gives the same.
    """
    channels: Any = samples
    mixed = channels[0]
    for channel in channels[1:]:
        mixed = mixed + channel
    return mixed[None] / channels.shape[0]
