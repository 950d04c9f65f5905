"""A recording in memory: samples and their rate; load, save, resample, mix, split and join.

`open_audio` reads files of any length in blocks instead.

The channel policy: `mono` mixes down to the mean of the channels, `split` separates them; mixing
comes before resampling. For a codec with fewer channels than a recording, the caller chooses
between the two.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from audiotok._platform.errors import InputError, InputTypeError
from audiotok.audio import levels, picture
from audiotok.audio.axes import new_axes
from audiotok.audio.decoders import CHUNK, AudioFileError
from audiotok.audio.reader import Source, mix, open_audio, resampled
from audiotok.audio.resample import Resampler
from audiotok.audio.writer import Sink

__all__ = ["Audio", "AudioFileError", "Sink", "Source", "open_audio"]


EXACT = 1e-24  # share of the energy that rounding in double precision leaves


def is_silent(samples: Tensor) -> bool:
    """Return whether samples `[... t]` are all 0, or constant along time (a mere offset)."""
    wave = samples.double()
    centred = wave - wave.mean(-1, keepdim=True)
    return not wave.numel() or bool(centred.square().sum() <= EXACT * wave.square().sum())


@dataclass(frozen=True, eq=False)
class Audio:
    """A recording in memory: samples and their rate.

    `audio[a:b]` cuts by samples; `len(audio)` counts them. A recording may have no samples.

    Args:
        samples: `[c t]` float32, with full scale at 1.
        rate: sample rate in Hz.

    Raises:
        ValueError: samples that are not 2-D float32, no channel, channels and samples exchanged,
            NaN or infinite samples, or a rate that is not a whole number of at least 1 Hz.
    """

    samples: Tensor  # `[c t]`; checked in `__post_init__`, whose errors are one line each
    rate: int

    def __post_init__(self):
        x = self.samples
        if not isinstance(x, Tensor) or x.ndim != 2 or x.dtype != torch.float32 or not len(x):
            kind = f"{x.dtype} {list(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
            raise InputError(f"samples must be a float32 tensor [channels samples], not {kind}")
        levels.check_shape(*x.shape)
        if self.rate != int(self.rate) or self.rate < 1:
            raise InputError(f"the sample rate must be a whole number of Hz, not {self.rate}")
        bad = ~x.isfinite()
        if bad.any():
            first = int(bad.any(0).nonzero()[0]) / self.rate
            raise InputError(
                f"{int(bad.sum())} samples are NaN or infinite (first at {first:.3f} s)"
            )

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.samples.shape[0]

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return len(self) / self.rate

    @property
    def silent(self) -> bool:
        """True if every channel is constant: all zeros, or an offset."""
        return is_silent(self.samples)

    def __len__(self) -> int:
        return self.samples.shape[1]

    def __getitem__(self, span: slice) -> Audio:
        if not isinstance(span, slice) or span.step not in (None, 1):
            raise InputTypeError(f"cut audio by samples, as in audio[a:b], not with {span!r}")
        return Audio(self.samples[:, span], self.rate)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        start: float | int | None = None,
        end: float | int | None = None,
    ) -> Audio:
        """Read a file, or stdin for "-", whole or from `start` to `end`.

        All formats of libsndfile are read, and with ffmpeg or torchcodec installed all of theirs.

        Args:
            path: the file.
            start: seconds; None for the beginning.
            end: seconds; None for the end, as is any time past it.

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
        """Write a file in the format that its extension names: wav, flac, ogg, opus, mp3, aiff ...

        The file appears under its name when it is complete. Samples past full scale are clipped,
        and counted in one warning, unless `subtype` is "FLOAT" or "DOUBLE".

        Args:
            path: the file to write.
            subtype: libsndfile's name of the encoding, e.g. "PCM_24" or "FLOAT"; 16 bits if None.
            force: whether to overwrite an existing file.

        Raises:
            AudioFileError: the file exists, its format is unknown or cannot hold this audio, or
                the disk is full or refuses.
        """
        with Sink(path, self.rate, self.channels, subtype=subtype, force=force) as sink:
            sink.write(self.samples)

    def resample(self, rate: int) -> Audio:
        """Return the recording at another rate, exactly `ceil(samples * new / old)` samples of it.

        Args:
            rate: the new sample rate in Hz.

        Raises:
            ValueError: a rate below 1 Hz, or that shares no useful factor with this one.
        """
        if rate == self.rate:
            return self
        parts = self.samples.split(CHUNK, 1)
        if self.samples.device.type == "cpu":
            arrays = resampled((x.numpy() for x in parts), self.rate, rate, self.channels)
            return Audio(torch.cat([torch.from_numpy(array) for array in arrays], 1), rate)
        resampler = Resampler(self.rate, rate, self.channels, device=self.samples.device)
        return Audio(torch.cat([*map(resampler.step, parts), resampler.finish()], 1), rate)

    def mono(self) -> Audio:
        """Return the mean of the channels as a recording of one channel.

        Raises:
            ValueError: the channels cancel each other, so that the mean is all but silent.
        """
        if self.channels == 1:
            return self
        mixed = mix(self.samples)
        levels.check_mix(self.samples, mixed)
        return Audio(mixed, self.rate)

    def split(self) -> list[Audio]:
        """Return each channel as a recording of its own."""
        return [Audio(x[None], self.rate) for x in self.samples]

    def plot(
        self, ax: Any | None = None, *, kind: picture.Kind = "waveform", start: float = 0.0
    ) -> Any:
        """Draw the mean of the channels, with seconds below, and return the matplotlib axes.

        Args:
            ax: axes to draw into; those of a new figure if None.
            kind: "waveform", or "spectrogram" (dB, with Hz at the side).
            start: time of the first sample in seconds.

        Raises:
            ImportError: matplotlib is not installed.
            ValueError: there is no such kind, or the channels cancel each other.
        """
        axes = new_axes(ax)
        picture.draw(axes, self, kind=kind, start=start)
        return axes

    def _repr_html_(self) -> str:
        """Return a player with a waveform, which notebooks show."""
        return picture.html(self)

    @staticmethod
    def cat(parts: Iterable[Audio]) -> Audio:
        """Return recordings joined in time, one after the other.

        Raises:
            ValueError: there are none, or they differ in rate or channels.
        """
        parts = list(parts)
        kinds = {(part.rate, part.channels) for part in parts}
        if len(kinds) != 1:
            raise InputError(f"cannot join audio of different (rate, channels): {sorted(kinds)}")
        return Audio(torch.cat([part.samples for part in parts], 1), parts[0].rate)
