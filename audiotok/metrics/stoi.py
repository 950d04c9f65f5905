"""STOI, short-time objective intelligibility: 0 to 1 (Taal et al. 2011)."""

from __future__ import annotations

import warnings

from audiotok.audio import Audio
from audiotok.metrics.base import Metric, Score, needed, pair


class Stoi(Metric):
    """STOI by the `pystoi` package, which resamples to 10 kHz."""

    better = "higher"
    protocol = "pystoi package, not extended, from 16 kHz, mono mean"

    def score(self, output: Audio, reference: Audio, text: str | None = None) -> Score:
        """See `Metric.score`; about half a second of speech is needed."""
        pystoi = needed("pystoi")
        made, wanted = pair(output, reference, rate=16000)
        if not wanted.any():
            raise ValueError("STOI: the reference is silent")
        with warnings.catch_warnings():
            # The package warns, and gives 1e-5, where it should refuse.
            warnings.filterwarnings("error", message="Not enough STFT frames")
            try:
                value = pystoi.stoi(wanted.numpy(), made.numpy(), 16000)
            except RuntimeWarning:
                raise ValueError("STOI: too little speech to score") from None
        return Score(float(value), 1)
