"""Mel distance: how far two log-mel spectrograms lie apart, in dB."""

from __future__ import annotations

import torch
from torch import Tensor

from audiotok import _torchaudio
from audiotok.audio import Audio
from audiotok.metrics.base import Metric, Score, pair


def log_mel(samples: Tensor, rate: int, *, bands: int = 80, floor: float = 1e-5) -> Tensor:
    """Log10 mel magnitudes `[bands frames]` of samples `[t]`: window 40 ms, hop 10 ms."""
    size = rate // 25
    stft = torch.stft(
        samples,
        size,
        rate // 100,
        window=torch.hann_window(size),
        return_complex=True,
        pad_mode="constant",
    )
    functional = _torchaudio.load().functional
    bank = functional.melscale_fbanks(
        size // 2 + 1, 0.0, rate / 2, bands, rate, norm=None, mel_scale="htk"
    )
    return (bank.T @ stft.abs()).clamp(min=floor).log10()


class Mel(Metric):
    """Mean absolute difference of log-mel magnitudes in dB, at the output's rate."""

    better = "lower"
    protocol = "dB, 80 HTK bands, window 40 ms, hop 10 ms, floor 1e-5, output's rate, mono mean"

    def score(self, output: Audio, reference: Audio, text: str | None = None) -> Score:
        """See `Metric.score`."""
        made, wanted = pair(output, reference)
        difference = log_mel(made, output.rate) - log_mel(wanted, output.rate)
        return Score(float(20 * difference.abs().mean()), 1)
