"""Log-mel energies as Kaldi computes them, of waves at 16 kHz: windows of 25 ms, 10 ms apart."""

from __future__ import annotations

import math
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

WINDOW, HOP, FFT = 400, 160, 512  # samples at 16 kHz


def log_energies(
    wave: Float[Tensor, "b t"],
    low: float,
    high: float,
    floor: float,
    *,
    centred: bool,
    bands: int = 80,
) -> Float[Tensor, "b f bands"]:
    """Return natural logarithms of the energies in mel bands `[b f bands]`, in double precision.

    Args:
        wave: samples `[b t]` with a full scale of 2^15, of one window at least.
        low: lowest frequency in Hz.
        high: highest frequency in Hz.
        floor: least energy of a band.
        centred: whether the mean of each window is taken off it.
        bands: number of mel bands.
    """
    frames = wave.double().unfold(1, WINDOW, HOP)
    if centred:
        frames = frames - frames.mean(2, keepdim=True)
    before = torch.cat([frames[..., :1], frames[..., :-1]], 2)
    frames = (frames - 0.97 * before) * _povey(WINDOW).to(wave.device)
    power = torch.fft.rfft(frames, FFT).abs().square()
    return (power @ _mel_bank(low, high, bands).to(wave.device)).clamp(min=floor).log()


@cache
def _povey(size: int) -> Tensor:
    """Return Kaldi's window of a number of samples: a power of Hann's."""
    return torch.hann_window(size, periodic=False, dtype=torch.float64).pow(0.85)


@cache
def _mel_bank(low: float, high: float, bands: int) -> Tensor:
    """Return Kaldi's filters `[bins bands]`, triangles on its mel scale."""
    edges = torch.linspace(_mel(low), _mel(high), bands + 2, dtype=torch.float64)
    bins = torch.tensor([_mel(16000 / FFT * i) for i in range(FFT // 2 + 1)], dtype=torch.float64)
    rising = (bins[:, None] - edges[:-2]) / edges.diff()[:-1]
    falling = (edges[2:] - bins[:, None]) / edges.diff()[1:]
    return torch.minimum(rising, falling).clamp(min=0)


def _mel(hertz: float) -> float:
    """Return a frequency on Kaldi's mel scale."""
    return 1127.0 * math.log(1.0 + hertz / 700.0)
