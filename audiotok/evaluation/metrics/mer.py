"""MER, match error rate: as WER, but over errors and hits, so that it never exceeds 100 %."""

from __future__ import annotations

from audiotok.evaluation.metrics.base import Score
from audiotok.evaluation.metrics.wer import Wer, align_words


class Mer(Wer):
    """Match error rate (Morris et al. 2004) by the `jiwer` package."""

    name = "MER"
    pooling = "errors over errors and hits, of all recordings together"

    def compare(self, reference: str, hypothesis: str) -> Score:
        """See `Wer.compare`."""
        counts = align_words(reference, hypothesis)
        errors = counts.substitutions + counts.deletions + counts.insertions
        return Score(100 * errors, counts.hits + errors)
