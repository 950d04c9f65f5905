"""MER, match error rate: as WER, but over errors and hits, so that it never exceeds 100 %."""

from __future__ import annotations

from audiotok.evaluation.metrics.base import Score
from audiotok.evaluation.metrics.wer import Wer, aligned


class Mer(Wer):
    """Match error rate (Morris et al. 2004) by the `jiwer` package."""

    name = "MER"
    pooling = "errors over errors and hits, of all recordings together"

    def compare(self, wanted: str, made: str) -> Score:
        """See `Wer.compare`."""
        found = aligned(wanted, made)
        errors = found.substitutions + found.deletions + found.insertions
        return Score(100 * errors, found.hits + errors)
