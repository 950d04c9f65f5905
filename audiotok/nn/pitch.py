"""Pitch of a voice frame by frame, by normalised autocorrelation; simple, quick and repeatable.

Source: Talkin 1995, "A robust algorithm for pitch tracking (RAPT)", section 3.1, without its
dynamic programming: of the lags that correlate nearly best, the shortest is taken, and a median
over time removes what is left of jumps by an octave.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

LOWEST, HIGHEST = 60.0, 400.0  # Hz
CENTRE = 150.0  # Hz; pitch is given in octaves above it
WINDOW = 0.032  # s over which a frame is compared with itself at a lag
VOICED = 0.55  # least correlation of a voiced frame
NEARLY = 0.9  # share of the best correlation at which a shorter lag is taken
QUIET = 1e-3  # root mean square, over that of the loudest frame, below which nothing is voiced
SMOOTHED = 5  # frames of the median


def track_pitch(
    wave: Float[Tensor, " t"], *, rate: int, hop: int
) -> tuple[Float[Tensor, " f"], Bool[Tensor, " f"]]:
    """Return the octaves `[f]` above `CENTRE`, 0 where there is no voice, and where there is one.

    Frames lie `hop` samples apart, each around the middle of its own; one begun counts.

    Args:
        wave: samples.
        rate: Hz.
        hop: samples per frame.
    """
    frames = -(-len(wave) // hop)
    if not frames:
        return wave.new_zeros(0), torch.zeros(0, dtype=torch.bool)
    size, longest = round(WINDOW * rate), int(rate / LOWEST) + 1
    shortest = int(rate / HIGHEST)
    span = size + longest
    before = (span - hop) // 2 + hop % 2
    padded = F.pad(wave, (max(0, before), frames * hop - len(wave) + span))
    x = padded.unfold(0, span, hop)[:frames]
    x = x - x.mean(1, keepdim=True)
    # Correlation of the first `size` samples with those at each lag, over the energies of both.
    width = 1 << (span + size - 1).bit_length()
    spectra = torch.fft.rfft(x, width) * torch.fft.rfft(x[:, :size], width).conj()
    products = torch.fft.irfft(spectra, width)[:, : longest + 1]
    squares = F.pad(x.square().cumsum(1), (1, 0))
    energies = (squares[:, size:] - squares[:, :-size])[:, : longest + 1].clamp(min=0)
    correlation = products / (energies * energies[:, :1]).sqrt().clamp(min=1e-9)
    inner = correlation[:, shortest : longest + 1]
    best = inner[:, 1:-1].amax(1)
    peak = (inner[:, 1:-1] >= inner[:, :-2]) & (inner[:, 1:-1] >= inner[:, 2:])
    enough = peak & (inner[:, 1:-1] >= NEARLY * best[:, None])
    at = enough.int().argmax(1) + shortest + 1  # the first
    left, middle, right = (correlation.gather(1, (at + i)[:, None])[:, 0] for i in (-1, 0, 1))
    bend = left - 2 * middle + right
    shift = torch.where(bend < -1e-9, 0.5 * (left - right) / bend.clamp(max=-1e-9), 0 * bend)
    octaves = torch.log2(rate / (at + shift.clamp(-0.5, 0.5)) / CENTRE)
    loudness = (energies[:, 0] / size).sqrt()
    audible = loudness > QUIET * loudness.max().clamp(min=1e-9)
    voiced = enough.any(1) & (middle >= VOICED) & audible
    return _smoothed(octaves, voiced)


def _smoothed(octaves: Tensor, voiced: Tensor) -> tuple[Tensor, Tensor]:
    """Return medians over time of what is voiced; a frame that is voiced alone is not."""
    half = SMOOTHED // 2
    values = torch.where(voiced, octaves, torch.full_like(octaves, torch.nan))
    around = F.pad(values, (half, half), value=torch.nan).unfold(0, SMOOTHED, 1)
    medians = around.nanmedian(1).values
    voiced = voiced & ((~around.isnan()).sum(1) > 1)
    return torch.where(voiced, medians, torch.zeros_like(medians)), voiced
