"""SI-SDR, scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019)."""

from __future__ import annotations

import torch
from torch import Tensor

from audiotok.audio import Audio
from audiotok.metrics.base import Metric, Score, pair

EXACT = 1e-24  # of the energy: what rounding in double precision leaves


class SiSdr(Metric):
    """SI-SDR in dB, means removed, not aligned: a codec here delays nothing."""

    better = "higher"
    protocol = "dB, zero mean, lag 0, output's rate, mono mean"

    def score(self, output: Audio, reference: Audio, text: str | None = None) -> Score:
        """See `Metric.score`; silence has no SI-SDR, and a perfect output no finite one."""
        made, wanted = pair(output, reference)
        made, wanted = _centred(made, "output"), _centred(wanted, "reference")
        aligned = (made @ wanted) / wanted.square().sum() * wanted
        signal = aligned.square().sum()
        noise = (made - aligned).square().sum()
        if noise <= EXACT * signal:
            raise ValueError("SI-SDR: the output is the reference, scaled; the ratio is infinite")
        if signal <= EXACT * noise:
            raise ValueError("SI-SDR: the output has nothing of the reference; minus infinity")
        return Score(float(10 * torch.log10(signal / noise)), 1)


def _centred(wave: Tensor, name: str) -> Tensor:
    wave = wave.double()
    centred = wave - wave.mean()
    if centred.square().sum() <= EXACT * wave.square().sum():
        raise ValueError(f"SI-SDR: the {name} is silent")
    return centred
