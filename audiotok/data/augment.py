"""Augmentation of training crops: gain, polarity, bandwidth and noise.

Sums and transforms are NumPy's: the last bits of torch's depend on the number of threads, and
batches have to be the same however many processes prepare them.
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
from audiotok._platform.errors import InputError

QUIETEST = 1e-3  # lowest peak that gain is computed from, so that silence is not amplified
WIDTH = 200.0  # width of the transition band of `low_pass`, Hz
LOWEST = 20.0  # Hz below which the spectrum of coloured noise is flat

Wave = Float32[Tensor, "*b t"]


@dataclass(frozen=True)
class Augment:
    """Probabilities and ranges of the changes made to training crops, each drawn independently.

    Gain, polarity and bandwidth change the input of the codec and its target alike, for a codec
    must reproduce them. So does noise, unless `denoise` is set.
    """

    gain: Annotated[float, SHARE] = (
        0.5  # share of crops that are scaled to a random peak; the rest keep their own
    )
    gain_low: Annotated[float, ANY] = -26.0  # lowest peak, dB of full scale
    gain_high: Annotated[float, ANY] = 0.0  # highest peak, dB of full scale
    flip: Annotated[float, SHARE] = 0.0  # share of crops with the polarity flipped
    band: Annotated[float, SHARE] = (
        0.0  # share of crops low-passed at a random frequency, uniform in octaves
    )
    band_low: Annotated[float, ABOVE_ZERO] = 3400.0  # lowest cutoff, Hz: telephone speech
    band_high: Annotated[float, ABOVE_ZERO] = 8000.0  # highest cutoff, Hz
    noise: Annotated[float, SHARE] = 0.0  # share of crops with noise added
    snr_low: Annotated[float, ANY] = 5.0  # lowest ratio of speech to noise, dB
    snr_high: Annotated[float, ANY] = 30.0  # highest ratio, dB
    noises: str = ""  # manifest or folder of noises; synthetic noise, white to brown, if empty
    denoise: bool = False  # whether the target is the clean crop rather than the noisy one

    def __post_init__(self) -> None:
        for field in fields(self):
            low = getattr(self, field.name)
            if field.name in ("gain", "flip", "band", "noise") and not 0 <= low <= 1:
                raise InputError(f"augment: {field.name} is a share of crops, 0 to 1, not {low}")
            if field.name.endswith("_low"):
                name = field.name.replace("_low", "_high")
                if not low <= getattr(self, name):
                    raise InputError(
                        f"augment: {field.name} {low} is above {name} {getattr(self, name)}"
                    )
        if self.band_low <= 0:
            raise InputError(f"augment: band_low must be above 0 Hz, not {self.band_low}")


def augment_crop(
    wave: Wave,
    options: Augment,
    random: Generator,
    *,
    rate: int,
    noise: Callable[[Generator, int], Tensor] | None = None,
) -> tuple[Wave, Wave]:
    """Return a crop with random changes applied, as the input and the target of a codec.

    Args:
        wave: a crop `[t]`, or crops `[b t]` that are all changed the same way.
        options: which changes may be made, and how strong they are.
        random: source of all draws; the same one gives the same result. How often one change is
            made does not affect the draws for another, except for the samples of the noise.
        rate: Hz.
        noise: function that returns the given number of noise samples; synthetic noise if None.

    Returns:
        The input of the codec, and its target: the same tensor unless `options.denoise`.
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
        # Beyond full scale both are scaled down: clipping would change the ratio.
        loudest = wave.abs().amax().clamp(min=1.0)
        wave, clean = wave / loudest, clean / loudest
    return wave, clean if options.denoise else wave


def _shares(options: Augment) -> np.ndarray:
    """Return the shares of crops that get gain, flip, band and noise."""
    return np.array([options.gain, options.flip, options.band, options.noise])


def peak(wave: Wave, decibels: float) -> Wave:
    """Return the wave with its peak at `decibels` of full scale, amplified by at most 26 dB."""
    highest = wave.abs().amax(-1, keepdim=True).clamp(min=QUIETEST)
    return wave * (10 ** (decibels / 20) / highest).clamp(max=20.0)


def low_pass(wave: Wave, cutoff: float, *, rate: int) -> Wave:
    """Return the wave without frequencies above `cutoff` Hz (-6 dB there), with zero phase.

    The first and last samples are taken to continue beyond the edges: a crop of a recording does
    not begin with a step.
    """
    if cutoff - WIDTH / 2 >= rate / 2:
        return wave
    margin = rate // 50  # samples after which the impulse response of the filter has decayed
    padded = np.pad(wave.numpy(), [*[(0, 0)] * (wave.ndim - 1), (margin, margin)], "edge")
    length = padded.shape[-1]
    above = (np.fft.rfftfreq(length, 1 / rate) - cutoff) / WIDTH
    response = 0.5 - 0.5 * np.sin(np.pi * above.clip(-0.5, 0.5))
    filtered = np.fft.irfft(np.fft.rfft(padded) * response, n=length)
    return torch.from_numpy(filtered[..., margin:-margin].astype(np.float32))


def coloured(
    length: int, exponent: float, random: Generator, *, rate: int
) -> Float32[Tensor, " t"]:
    """Return noise `[t]` of variance near 1 whose power falls with frequency to the `exponent`.

    Args:
        length: samples.
        exponent: 0 for white noise, 1 for pink (-3 dB an octave), 2 for brown (-6 dB an octave).
        random: source of the samples.
        rate: Hz.
    """
    spectrum = np.fft.rfft(random.standard_normal(length))
    frequency = np.fft.rfftfreq(length, 1 / rate)
    noise = np.fft.irfft(spectrum * np.maximum(frequency, LOWEST) ** (-exponent / 2), n=length)
    return torch.from_numpy((noise / max(noise.std(), 1e-12)).astype(np.float32))


def add_noise(wave: Wave, noise: Wave, decibels: float) -> Wave:
    """Return the wave with noise added whose power is `decibels` below that of the wave.

    A silent wave, and a silent noise, leave the wave as it is.
    """
    power, other = (np.square(x.numpy(), dtype=np.float64).mean(-1) for x in (wave, noise))
    scale = np.sqrt(power / np.maximum(other, 1e-12) * 10 ** (-decibels / 10))
    return wave + torch.from_numpy(scale[..., None].astype(np.float32)) * noise
