"""PESQ, wide band (ITU-T P.862.2): 1.04 to 4.64, a model of the opinion of listeners."""

from __future__ import annotations

from audiotok.audio import Audio
from audiotok.metrics.base import Metric, Score, needed, pair


class Pesq(Metric):
    """Wide-band PESQ by the `pesq` package, at 16 kHz."""

    better = "higher"
    protocol = "pesq package, wide band, 16 kHz, mono mean"

    def score(self, output: Audio, reference: Audio, text: str | None = None) -> Score:
        """See `Metric.score`; at least a quarter of a second with speech in it is needed."""
        pesq = needed("pesq")
        made, wanted = pair(output, reference, rate=16000)
        for name, wave in (("output", made), ("reference", wanted)):
            if not wave.any():
                raise ValueError(f"PESQ: the {name} is silent")
        try:
            value = pesq.pesq(16000, wanted.numpy(), made.numpy(), "wb")
        except pesq.PesqError as error:
            what = error.args[0] if error.args else error
            what = what.decode() if isinstance(what, bytes) else str(what)
            raise ValueError(f"PESQ: {what}") from None
        return Score(float(value), 1)
