"""Augmentation: crops made quieter or louder, upside down, dull or noisy.

Sums and transforms are NumPy's: torch's depend on the number of threads in their last bits, and
batches have to be the same however many processes make them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float32
from numpy.random import Generator
from torch import Tensor

from audiotok._platform.config import ABOVE_ZERO, ANY, SHARE

QUIETEST = 1e-3  # a peak below it is taken for this one: silence is not blown up
WIDTH = 200.0  # Hz over which `low_pass` goes from all to nothing
LOWEST = 20.0  # Hz below which coloured noise gets no stronger

Wave = Float32[Tensor, "*b t"]


@dataclass(frozen=True)
class Augment:
    """What is done to crops, each alone: how many of them, and how much of it.

    Gain, polarity and band are done to what goes into the codec and to what should come out alike,
    for a codec must reproduce them. So is noise, unless `denoise`.
    """

    gain: Annotated[float, SHARE] = (
        0.5  # share of crops that are set to a random peak; the rest keep their own
    )
    gain_low: Annotated[float, ANY] = -26.0  # lowest peak, dB of full scale
    gain_high: Annotated[float, ANY] = 0.0  # highest
    flip: Annotated[float, SHARE] = 0.0  # share with the polarity flipped
    band: Annotated[float, SHARE] = (
        0.0  # share low-passed at a random frequency, uniform in octaves
    )
    band_low: Annotated[float, ABOVE_ZERO] = 3400.0  # lowest cutoff, Hz: the telephone's
    band_high: Annotated[float, ABOVE_ZERO] = 8000.0  # highest
    noise: Annotated[float, SHARE] = 0.0  # share with noise added
    snr_low: Annotated[float, ANY] = 5.0  # lowest ratio of speech to noise, dB
    snr_high: Annotated[float, ANY] = 30.0  # highest
    noises: str = ""  # manifest or folder of noises; synthetic ones, white to brown, if empty
    denoise: bool = False  # the codec should leave out the noise, not reproduce what it hears

    def __post_init__(self) -> None:
        for field in fields(self):
            low = getattr(self, field.name)
            if field.name in ("gain", "flip", "band", "noise") and not 0 <= low <= 1:
                raise ValueError(f"augment: {field.name} is a share of crops, 0 to 1, not {low}")
            if field.name.endswith("_low"):
                name = field.name.replace("_low", "_high")
                if not low <= getattr(self, name):
                    raise ValueError(
                        f"augment: {field.name} {low} is above {name} {getattr(self, name)}"
                    )
        if self.band_low <= 0:
            raise ValueError(f"augment: band_low must be above 0 Hz, not {self.band_low}")


def augmented(
    wave: Wave,
    options: Augment,
    random: Generator,
    *,
    rate: int,
    noise: Callable[[Generator, int], Tensor] | None = None,
) -> tuple[Wave, Wave]:
    """A crop changed as chance will have it.

    Args:
        wave: a crop, or crops that share their fate.
        options: what may be done.
        random: decides; the same one gives the same result. How often one thing is done does not
            change what is drawn for another, but for what noise consists of.
        rate: Hz.
        noise: gives so many samples of noise; synthetic if None.

    Returns:
        What goes into the codec, and what should come out: the same tensor unless
        `options.denoise`.
    """
    gain, flip, band, noisy = (random.random(4) < _shares(options)).tolist()
    level, cutoff, snr, colour = random.random(4).tolist()
    if band:
        octaves = math.log2(options.band_high / options.band_low)
        wave = low_pass(wave, options.band_low * 2 ** (octaves * cutoff), rate=rate)
    if flip:
        wave = -wave
    if gain:
        wave = peak(wave, options.gain_low + (options.gain_high - options.gain_low) * level)
    clean = wave
    if noisy:
        length = wave.shape[-1]
        added = noise(random, length) if noise else coloured(length, 2 * colour, random, rate=rate)
        ratio = options.snr_low + (options.snr_high - options.snr_low) * snr
        wave = add_noise(wave, added, ratio)
        # Past full scale both are turned down, which keeps the ratio as clipping would not.
        loudest = wave.abs().amax().clamp(min=1.0)
        wave, clean = wave / loudest, clean / loudest
    return wave, clean if options.denoise else wave


def _shares(options: Augment) -> np.ndarray:
    return np.array([options.gain, options.flip, options.band, options.noise])


def peak(wave: Wave, decibels: float) -> Wave:
    """The wave with its peak at so many dB of full scale; not amplified by more than 26 dB."""
    highest = wave.abs().amax(-1, keepdim=True).clamp(min=QUIETEST)
    return wave * (10 ** (decibels / 20) / highest).clamp(max=20.0)


def low_pass(wave: Wave, cutoff: float, *, rate: int) -> Wave:
    """The wave without what lies above `cutoff` Hz (-6 dB there), in phase.

    The edges are taken to go on as they are, as those of a piece out of a recording do rather than
    begin with a bang.
    """
    if cutoff - WIDTH / 2 >= rate / 2:
        return wave
    margin = rate // 50  # by then what the filter answers to a click has died away
    padded = np.pad(wave.numpy(), [*[(0, 0)] * (wave.ndim - 1), (margin, margin)], "edge")
    length = padded.shape[-1]
    above = (np.fft.rfftfreq(length, 1 / rate) - cutoff) / WIDTH
    response = 0.5 - 0.5 * np.sin(np.pi * above.clip(-0.5, 0.5))
    made = np.fft.irfft(np.fft.rfft(padded) * response, n=length)
    return torch.from_numpy(made[..., margin:-margin].astype(np.float32))


def coloured(
    length: int, exponent: float, random: Generator, *, rate: int
) -> Float32[Tensor, " t"]:
    """Noise whose power falls with frequency to the `exponent`, of variance near 1.

    0 is white, 1 pink (-3 dB an octave), 2 brown (-6 dB).
    """
    spectrum = np.fft.rfft(random.standard_normal(length))
    frequency = np.fft.rfftfreq(length, 1 / rate)
    noise = np.fft.irfft(spectrum * np.maximum(frequency, LOWEST) ** (-exponent / 2), n=length)
    return torch.from_numpy((noise / max(noise.std(), 1e-12)).astype(np.float32))


def add_noise(wave: Wave, noise: Wave, decibels: float) -> Wave:
    """The wave with noise so many dB below it in power; nothing to a silent one, or of one."""
    power, other = (np.square(x.numpy(), dtype=np.float64).mean(-1) for x in (wave, noise))
    scale = np.sqrt(power / np.maximum(other, 1e-12) * 10 ** (-decibels / 10))
    return wave + torch.from_numpy(scale[..., None].astype(np.float32)) * noise
