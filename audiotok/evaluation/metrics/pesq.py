"""PESQ, a model of listeners' opinion (ITU-T P.862): 1.04 to 4.64 for wide band."""

from __future__ import annotations

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


class Pesq(Metric):
    """Wide-band PESQ (P.862.2) by the `pesq` package, at 16 kHz.

    The variant `nb` is narrow-band PESQ for telephone speech (P.862.1), at 8 kHz: 1.02 to 4.55.
    """

    better = "higher"
    unit = "MOS"
    options = ("nb",)

    def __init__(self, option: str = "", *, models: Mapping[str, str] | None = None) -> None:
        super().__init__(option, models=models)
        band = "narrow band, 8 kHz" if option else "wide band, 16 kHz"
        self.protocol = f"{version('pesq')} package, {band}, mono mean"

    def score(self, output: Audio, reference: Audio, text: str | None = None) -> Score:
        """See `Metric.score`; at least 0.25 s with speech is needed."""
        pesq = optional_import("pesq")
        rate, band = (8000, "nb") if self.option == "nb" else (16000, "wb")
        estimate, target = pair(output, reference, rate=rate)
        check_not_silent("PESQ", output=output, reference=reference)
        try:
            value = pesq.pesq(rate, target.numpy(), estimate.numpy(), band)
        except pesq.PesqError as error:
            what = error.args[0] if error.args else error
            what = what.decode() if isinstance(what, bytes) else str(what)
            raise InputError(f"PESQ: {what}") from None
        return Score(float(value), 1)
