"""STOI, short-time objective intelligibility, 0 to 1 (Taal et al. 2011)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

from audiotok._platform.errors import InputError
from audiotok.audio.audio import Audio
from audiotok.evaluation.metrics.base import (
    Metric,
    Score,
    check_not_silent,
    optional_import,
    pair,
    version,
)


class Stoi(Metric):
    """STOI by the `pystoi` package, which resamples to 10 kHz.

    The variant `extended` is ESTOI (Jensen and Taal 2016), for fluctuating noise.
    """

    better = "higher"
    options = ("extended",)

    def __init__(self, option: str = "", *, models: Mapping[str, str] | None = None) -> None:
        super().__init__(option, models=models)
        kind = "extended (ESTOI)" if option else "not extended"
        self.protocol = f"{version('pystoi')}, {kind}, from 16 kHz, mono mean"

    def score(self, output: Audio, reference: Audio, text: str | None = None) -> Score:
        """See `Metric.score`; about 0.5 s of speech is needed. A silent output scores 0."""
        pystoi = optional_import("pystoi")
        estimate, target = pair(output, reference, rate=16000)
        check_not_silent("STOI", reference=reference)
        if output.mono().silent:  # the ends of a resampled offset would pass for speech
            return Score(0.0, 1)
        extended = self.option == "extended"
        with warnings.catch_warnings():
            # The package warns and returns 1e-5 where it should raise.
            warnings.filterwarnings("error", message="Not enough STFT frames")
            try:
                value = pystoi.stoi(target.numpy(), estimate.numpy(), 16000, extended=extended)
            except (RuntimeWarning, IndexError):  # IndexError: less than one frame
                raise InputError("STOI: too little speech to score") from None
        return Score(float(value), 1)
