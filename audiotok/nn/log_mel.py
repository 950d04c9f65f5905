"""Log-mel spectra as Whisper's front end has them: windows of 25 ms, 10 ms apart, ends mirrored."""

from __future__ import annotations

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from audiotok.nn.layers.centred_mel import slaney_bank
from audiotok.nn.spectrogram import hann

WINDOW, HOP = 400, 160  # samples at 16 kHz
MARGIN = WINDOW // 2  # samples on either side of a step's centre that its window covers
RANGE = 8.0  # decades of power below the loudest bin, at which spectra are cut off

Logs = Float[Tensor, "b bands s"]


def mirrored(wave: Float[Tensor, "b t"], *, start: bool = True, end: bool = True) -> Tensor:
    """Return waves with `MARGIN` mirrored samples before the start and after the end.

    A wave too short to be mirrored is filled up with zeros.
    """
    wave = F.pad(wave, (0, max(0, MARGIN + 1 - wave.shape[1])))
    before, after = MARGIN if start else 0, MARGIN if end else 0
    return F.pad(wave[:, None], (before, after), mode="reflect")[:, 0]


def power_logs(wave: Float[Tensor, "b t"], bands: int) -> Logs:
    """Return the decimal logarithms of mel powers of all whole windows of waves `[b t]` at 16 kHz.

    Of mirrored waves, step i is centred on sample 160 i.

    Args:
        wave: samples, of one window at least.
        bands: bands of Slaney's mel scale from 0 to 8 kHz: 80, and 128 since Whisper large-v3.
    """
    window = hann(WINDOW, wave.device).to(wave)
    bins = torch.stft(wave, WINDOW, HOP, window=window, center=False, return_complex=True)
    bank = _bank(bands).to(wave)
    # A matrix product for each recording, so that its last bits do not depend on the batch.
    power = torch.stack([bank @ one for one in bins.abs() ** 2])
    return power.clamp(min=1e-10).log10()


def normalised(logs: Logs, loudest: Tensor) -> Logs:
    """Return logarithms cut off 80 dB below the loudest, and scaled as Whisper scales them.

    Args:
        logs: logarithms of powers.
        loudest: largest of them in a recording, of a shape that fits.
    """
    return (torch.maximum(logs, loudest - RANGE) + 4.0) / 4.0


@cache
def _bank(bands: int) -> Tensor:
    """Return the mel filters `[bands bins]`."""
    return torch.from_numpy(slaney_bank(16000, WINDOW, bands, 0.0, 8000.0))
