"""Mel distance: difference of two log-mel spectrograms, in dB or as published with codecs."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from audiotok.audio import _torchaudio
from audiotok.audio.audio import Audio
from audiotok.evaluation.metrics.base import Metric, Score, check_not_silent, pair
from audiotok.nn.spectrogram import (
    MEL_DAC,
    MEL_SPEECHTOKENIZER,
    MEL_VOCOS,
    MelSettings,
    mel_distance,
)


def log_mel(samples: Tensor, rate: int, *, bands: int = 80, floor: float = 1e-5) -> Tensor:
    """Return log10 mel magnitudes `[bands frames]` of samples `[t]`: window 40 ms, hop 10 ms.

    Args:
        samples: waveform `[t]`.
        rate: sampling rate in Hz.
        bands: number of HTK mel bands.
        floor: smallest magnitude.
    """
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


PUBLISHED: dict[str, tuple[MelSettings, str]] = {
    "speechtokenizer": (
        MEL_SPEECHTOKENIZER,
        "SpeechTokenizer's (arXiv:2308.16692): natural logarithms, 80 bands each, windows 1024, "
        "512, 256, 128 weighted 1, 1/45, 1/45, 1/45",
    ),
    "dac": (
        MEL_DAC,
        "DAC's (arXiv:2306.06546, conf/base.yml): decimal logarithms, summed over windows 32 to "
        "2048 with 5 to 320 bands",
    ),
    "vocos": (
        MEL_VOCOS,
        "Vocos's and WavTokenizer's (arXiv:2306.00814): natural logarithms, 100 bands, window "
        "1024, hop 256",
    ),
}


class Mel(Metric):
    """Mean absolute difference of log-mel magnitudes in dB, at the output's rate.

    `mel:speechtokenizer`, `mel:dac` and `mel:vocos` are the distances that those codecs were
    trained with, in their units (`spectrogram.MelSettings`), before the weight of the loss.
    """

    better = "lower"
    unit = "dB"
    protocol = "dB, 80 HTK bands, window 40 ms, hop 10 ms, floor 1e-5, output's rate, mono mean"
    options = tuple(PUBLISHED)

    def __init__(self, option: str = "", *, models: Mapping[str, str] | None = None) -> None:
        super().__init__(option, models=models)
        self.settings: MelSettings | None = None
        if option:
            self.settings, what = PUBLISHED[option]
            self.unit = ""
            self.protocol = f"{what}, in samples, at the output's rate, mono mean"

    def score(self, output: Audio, reference: Audio, text: str | None = None) -> Score:
        """See `Metric.score`."""
        estimate, target = pair(output, reference)
        if target.any():  # digital silence can be compared; a constant offset cannot
            check_not_silent("mel", reference=reference)
        if self.settings:
            distance = mel_distance(estimate[None], target[None], output.rate, self.settings)
            return Score(float(distance), 1)
        difference = log_mel(estimate, output.rate) - log_mel(target, output.rate)
        return Score(float(20 * difference.abs().mean()), 1)
