"""Audio: samples and their rate; load, save, resample. Files of any length: `open_audio`.

The channel policy in one place: `mono` mixes down by the mean of the channels, `split` takes them
apart; mixing comes before resampling. What a codec with fewer channels does is its caller's choice
between these two.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from audiotok.audio import levels
from audiotok.audio.decoders import CHUNK, AudioFileError
from audiotok.audio.reader import Source, mix, open_audio
from audiotok.audio.resample import Resampler
from audiotok.audio.writer import Sink

__all__ = ["Audio", "AudioFileError", "Sink", "Source", "open_audio"]


EXACT = 1e-24  # of the energy: what rounding in double precision leaves


def is_silent(samples: Tensor) -> bool:
    """Tell whether samples `[... t]` are all 0, or never leave an offset."""
    wave = samples.double()
    centred = wave - wave.mean(-1, keepdim=True)
    return not wave.numel() or bool(centred.square().sum() <= EXACT * wave.square().sum())


@dataclass(frozen=True, eq=False)
class Audio:
    """A recording in memory: `samples` `[c t]`, float32 with full scale at 1, and `rate` in Hz.

    `audio[a:b]` cuts by samples; `len(audio)` counts them. No samples at all is a legal value.

    Raises:
        ValueError: not 2-D float32, no channel, channels and samples exchanged, NaN or infinite
            samples, or a rate below 1 Hz.
    """

    samples: Tensor  # `[c t]`; checked below, so that what is wrong is said in one line
    rate: int

    def __post_init__(self):
        x = self.samples
        if not isinstance(x, Tensor) or x.ndim != 2 or x.dtype != torch.float32 or not len(x):
            came = f"{x.dtype} {list(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(f"samples must be a float32 tensor [channels samples], not {came}")
        levels.checked_shape(*x.shape)
        if self.rate != int(self.rate) or self.rate < 1:
            raise ValueError(f"the sample rate must be a whole number of Hz, not {self.rate}")
        bad = ~x.isfinite()
        if bad.any():
            first = int(bad.any(0).nonzero()[0]) / self.rate
            raise ValueError(
                f"{int(bad.sum())} samples are NaN or infinite (first at {first:.3f} s)"
            )

    @property
    def channels(self) -> int:
        """How many channels."""
        return self.samples.shape[0]

    @property
    def seconds(self) -> float:
        """Duration."""
        return len(self) / self.rate

    @property
    def silent(self) -> bool:
        """True if all samples are 0, or each channel is one constant (an offset alone)."""
        return is_silent(self.samples)

    def __len__(self) -> int:
        return self.samples.shape[1]

    def __getitem__(self, span: slice) -> Audio:
        if not isinstance(span, slice) or span.step not in (None, 1):
            raise TypeError(f"cut audio by samples, as in audio[a:b], not with {span!r}")
        return Audio(self.samples[:, span], self.rate)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        start: float | int | None = None,
        end: float | int | None = None,
    ) -> Audio:
        """Reads a file, or stdin for "-", whole or from `start` to `end` (seconds).

        Reads what libsndfile reads, and with ffmpeg or torchcodec installed what they read. An
        `end` past the end of the file is that end.

        Raises:
            AudioFileError: missing, empty, not audio, truncated, NaN or infinite samples, or a
                `start` past its end.
        """
        with open_audio(path, start=start, end=end) as source:
            blocks = list(source.blocks())
            return cls(torch.cat([torch.zeros(source.channels, 0), *blocks], 1), source.rate)

    def save(
        self, path: str | os.PathLike[str], *, subtype: str | None = None, force: bool = False
    ) -> None:
        """Writes a file whose extension says its format: wav, flac, ogg, opus, mp3, aiff ...

        It appears under its name when it is complete. Samples past full scale are clipped, and
        counted in one warning, unless `subtype` is "FLOAT" or "DOUBLE".

        Args:
            path: where to.
            subtype: libsndfile's name of the encoding, e.g. "PCM_24" or "FLOAT"; 16 bits if None.
            force: overwrite what is there.

        Raises:
            AudioFileError: the file exists, its format is unknown or cannot hold this audio, or
                the disk is full or refuses.
        """
        with Sink(path, self.rate, self.channels, subtype=subtype, force=force) as sink:
            sink.write(self.samples)

    def resample(self, rate: int) -> Audio:
        """The same recording at another rate (Hz): exactly `ceil(samples * new / old)` samples.

        Raises:
            ValueError: a rate below 1 Hz, or that shares no useful factor with this one.
        """
        if rate == self.rate:
            return self
        resampler = Resampler(self.rate, rate, self.channels, device=self.samples.device)
        parts = [resampler.step(x) for x in self.samples.split(CHUNK, 1)]
        return Audio(torch.cat([*parts, resampler.finish()], 1), rate)

    def mono(self) -> Audio:
        """The mean of the channels.

        Raises:
            ValueError: they cancel each other, so that all but silence would come.
        """
        if self.channels == 1:
            return self
        mixed = mix(self.samples)
        levels.checked_mix(self.samples, mixed)
        return Audio(mixed, self.rate)

    def split(self) -> list[Audio]:
        """Each channel as a recording of its own."""
        return [Audio(x[None], self.rate) for x in self.samples]

    @staticmethod
    def cat(parts: Iterable[Audio]) -> Audio:
        """One recording after the other.

        Raises:
            ValueError: nothing to join, or other rates or channels than the first part has.
        """
        parts = list(parts)
        kinds = {(part.rate, part.channels) for part in parts}
        if len(kinds) != 1:
            raise ValueError(f"cannot join audio of different (rate, channels): {sorted(kinds)}")
        return Audio(torch.cat([part.samples for part in parts], 1), parts[0].rate)
