"""Mel distance: difference of two log-mel spectrograms, in dB or as published with codecs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

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

BANDS = 80  # of the distance in dB
GROUPS = 10  # variants `band1` to `band10`, each the mean over as many neighbouring bands


def group_centres(group: int, rate: int = 16000) -> tuple[float, float]:
    """Return the centres in Hz of the first and the last mel band of a group, from 1.

    Args:
        group: number of the group.
        rate: sampling rate in Hz.
    """
    size, top = BANDS // GROUPS, math.log1p(rate / 2 / 700)  # HTK's scale, but for a factor
    ends = (group - 1) * size + 1, group * size
    low, high = (700 * math.expm1(top * band / (BANDS + 1)) for band in ends)
    return low, high


def log_mel(samples: Tensor, rate: int, *, bands: int = BANDS, floor: float = 1e-5) -> Tensor:
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

    `mel:band1` to `mel:band10` are the distance in dB of 8 neighbouring bands each, from low to
    high; their mean is `mel`. `mel:bands` stands for all of them in a bench. Source: Li et al.
    2025, arXiv:2410.17081, which compares tokenizers by what they keep of each frequency.
    """

    better = "lower"
    unit = "dB"
    protocol = "dB, 80 HTK bands, window 40 ms, hop 10 ms, floor 1e-5, output's rate, mono mean"
    groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "bands": tuple(f"band{i}" for i in range(1, GROUPS + 1))
    }
    options = (*PUBLISHED, *groups["bands"])

    def __init__(self, option: str = "", *, models: Mapping[str, str] | None = None) -> None:
        super().__init__(option, models=models)
        self.settings: MelSettings | None = None
        self.bands = slice(BANDS)
        if option in self.groups["bands"]:
            group, size = int(option.removeprefix("band")), BANDS // GROUPS
            self.bands = slice((group - 1) * size, group * size)
            low, high = group_centres(group)
            self.protocol = (
                f"bands {(group - 1) * size + 1} to {group * size} of `mel`, centred {low:.0f} to "
                f"{high:.0f} Hz in recordings of 16 kHz: {type(self).protocol}"
            )
        elif option:
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
        return Score(float(20 * difference[self.bands].abs().mean()), 1)
