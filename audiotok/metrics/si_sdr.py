"""SI-SDR, scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019)."""

from __future__ import annotations

import torch

from audiotok.audio import Audio
from audiotok.metrics.base import Metric, Score, pair


class SiSdr(Metric):
    """SI-SDR in dB, means removed, not aligned: a codec here delays nothing."""

    better = "higher"
    protocol = "dB, zero mean, lag 0, output's rate, mono mean"

    def score(self, output: Audio, reference: Audio, text: str | None = None) -> Score:
        """See `Metric.score`; a silent reference has no SI-SDR."""
        made, wanted = (x.double() - x.double().mean() for x in pair(output, reference))
        energy = wanted.square().sum()
        if energy == 0:
            raise ValueError("SI-SDR: the reference is silent")
        aligned = (made @ wanted) / energy * wanted
        noise = (made - aligned).square().sum()
        ratio = aligned.square().sum() / noise.clamp(min=1e-20)
        return Score(float(10 * torch.log10(ratio.clamp(min=1e-20))), 1)
