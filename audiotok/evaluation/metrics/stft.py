"""STFT distance: difference of magnitude spectrograms over several window lengths."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from audiotok.audio.audio import Audio
from audiotok.evaluation.metrics.base import Metric, Score, check_not_silent, pair
from audiotok.nn.spectrogram import STFT_SCALES, bins_of_pair, energy, hann, stft_distances

PROTOCOLS = {
    "mrstft": (
        "spectral convergence plus mean absolute difference of natural log magnitudes, mean over "
        "windows 600, 1200, 240 in transforms of 1024, 2048, 512, hops 120, 240, 50 samples, "
        "energies no smaller than 1e-8 (arXiv:1910.11480, auraloss's default)"
    ),
    "dac": (
        "mean absolute difference of magnitudes plus that of their decimal log squares no smaller "
        "than 1e-5, summed over windows 2048 and 512, hop a quarter (DAC, arXiv:2306.06546)"
    ),
}


class Stft(Metric):
    """Multi-resolution STFT distance at the output's rate, windows in samples as published.

    `stft` is `stft:mrstft` (Yamamoto et al. 2020, arXiv:1910.11480, equations 3 to 6), which does
    not change when both recordings become louder by the same factor, but for its floor; `stft:dac`
    is the distance reported by the paper of DAC (Kumar et al. 2023, after Engel et al. 2020,
    arXiv:2001.04643).
    """

    better = "lower"
    options = tuple(PROTOCOLS)

    def __init__(self, option: str = "", *, models: Mapping[str, str] | None = None) -> None:
        super().__init__(option, models=models)
        self.variant = option or "mrstft"
        self.protocol = f"{PROTOCOLS[self.variant]}, Hann, output's rate, mono mean"

    def score(self, output: Audio, reference: Audio, text: str | None = None) -> Score:
        """See `Metric.score`; more than 1024 samples are needed, half the longest window."""
        estimate, target = pair(output, reference)
        if self.variant == "mrstft" or target.any():  # the convergence of silence is infinite
            check_not_silent("STFT", reference=reference)
        distance = _dac if self.variant == "dac" else _mrstft
        return Score(distance(estimate[None], target[None]), 1)


def _mrstft(estimate: Tensor, target: Tensor) -> float:
    """Return the distance of Yamamoto et al. between waveforms `[1 t]`."""
    total = 0.0
    for size, width, hop in STFT_SCALES:
        bins = bins_of_pair(estimate, target, hann(width, estimate.device, fft=size), hop)
        convergence, logarithms = stft_distances(*bins, floor=1e-4, clamped=True)
        total += float(convergence + logarithms)
    return total / len(STFT_SCALES)


def _dac(estimate: Tensor, target: Tensor) -> float:
    """Return the distance of DAC's paper between waveforms `[1 t]`."""
    total = 0.0
    for size in (2048, 512):
        one, other = (
            energy(x)
            for x in bins_of_pair(estimate, target, hann(size, estimate.device), size // 4)
        )
        quiet = 1e-5
        logarithms = one.clamp(min=quiet).log10() - other.clamp(min=quiet).log10()
        total += float(logarithms.abs().mean() + (one.sqrt() - other.sqrt()).abs().mean())
    return total
