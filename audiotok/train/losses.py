"""Losses, one function each; a function's name is its key in a recipe.

Each takes the codec's output first, then the reference, both `[b c t]`, and gives a mean scalar.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from audiotok import _torchaudio
from audiotok.shapes import Scalar, Wave

MEL_SCALES = ((2048, 160), (1024, 80), (512, 40), (256, 20), (128, 10))
"""(window in samples, mel bands): DAC's, with bands that shrink with the window, so that none is
empty (SpeechTokenizer's 80 bands at 128 samples leave 13 empty)."""


def waveform(output: Wave, reference: Wave) -> Scalar:
    """Mean absolute difference of samples."""
    return (output - reference).abs().mean()


def mel(output: Wave, reference: Wave, *, rate: int) -> Scalar:
    """Mean absolute difference of log10 mel magnitudes, summed over `MEL_SCALES` (Kumar et al.
    2023, arXiv:2306.06546, section 3.4): silence floor 1e-5, hop a quarter of the window."""
    total = output.new_zeros(())
    for size, bands in MEL_SCALES:
        bank = _mel_bank(rate, size, bands, output.device)
        with torch.no_grad():
            target = (_magnitude(reference, size) @ bank).clamp(min=1e-5).log10()
        made = (_magnitude(output, size) @ bank).clamp(min=1e-5).log10()
        total = total + (made - target).abs().mean()
    return total


SPECTRUM_WINDOWS = (1024, 512, 256)
POWER = 0.3  # |X|^0.3 makes loud and quiet bins comparable (Braun and Tashev 2021, equation 4)


def spectrum(output: Wave, reference: Wave) -> Scalar:
    """Mean absolute difference of compressed magnitudes |X|^0.3, mean over windows (Braun and
    Tashev 2021, arXiv:2009.12286, equation 4; absolute differences here, squares there)."""
    total = output.new_zeros(())
    for size in SPECTRUM_WINDOWS:
        with torch.no_grad():
            target = _energy(_bins(reference, size)).pow(POWER / 2)
        made = _energy(_bins(output, size)).pow(POWER / 2)
        total = total + (made - target).abs().mean()
    return total / len(SPECTRUM_WINDOWS)


def complex_spectrum(output: Wave, reference: Wave) -> Scalar:
    """Mean distance of compressed complex bins X |X|^(0.3 - 1), mean over windows (as `spectrum`).

    Magnitude alone leaves phase to chance; this asks for the waveform. Where phase is not learnt
    it only makes the output quieter.
    """
    total = output.new_zeros(())
    for size in SPECTRUM_WINDOWS:
        with torch.no_grad():
            target = _compressed(_bins(reference, size))
        apart = _compressed(_bins(output, size)) - target
        # The length of a complex difference: its direction does not depend on the axes.
        total = total + apart.square().sum(-1).add(1e-8).sqrt().mean()
    return total / len(SPECTRUM_WINDOWS)


def _stft(x: Tensor, size: int, hop: int) -> Tensor:
    x = F.pad(x.flatten(0, 1), (size // 2, size // 2))
    frames = x.unfold(1, size, hop) * _hann(size, x.device)
    return torch.fft.rfft(frames)


def _magnitude(x: Tensor, size: int) -> Tensor:
    # The gradient of abs() at zero is not a number; 1e-6 lies under the silence floor.
    power = torch.view_as_real(_stft(x, size, size // 4)).square().sum(-1)
    return power.add(1e-12).sqrt()


def _bins(x: Tensor, size: int) -> Tensor:
    """Real and imaginary parts, last; a hop of half a window covers every sample."""
    # Divided by the window's energy, so that all sizes weigh alike.
    return torch.view_as_real(_stft(x, size, size // 2)) / (3 * size / 8) ** 0.5


def _energy(bins: Tensor) -> Tensor:
    return bins.square().sum(-1).add(1e-8)


def _compressed(bins: Tensor) -> Tensor:
    return bins * _energy(bins).pow((POWER - 1) / 2)[..., None]


@cache
def _hann(size: int, device: torch.device) -> Tensor:
    return torch.hann_window(size, device=device)


@cache
def _mel_bank(rate: int, size: int, bands: int, device: torch.device) -> Tensor:
    functional = _torchaudio.load().functional
    bank = functional.melscale_fbanks(
        size // 2 + 1, 0.0, rate / 2, bands, rate, norm="slaney", mel_scale="slaney"
    )
    # Slaney's normalisation divides by bandwidth in Hz; undone by the bin width, a window of any
    # size gives magnitudes of one scale.
    return (bank * rate / size).to(device)
