"""WIL, word information lost: 1 - (hits / words in the text) x (hits / words in the transcript)."""

from __future__ import annotations

from audiotok.evaluation.metrics.base import Score
from audiotok.evaluation.metrics.wer import Wer, align_words


class Wil(Wer):
    """Word information lost (Morris et al. 2004) by the `jiwer` package.

    The value is a product of two ratios, so no ratio of sums stands for a corpus; the mean over
    recordings is used, each counting once.
    """

    name = "WIL"
    pooling = "mean over recordings, each counting once"

    def compare(self, reference: str, hypothesis: str) -> Score:
        """See `Wer.compare`."""
        counts = align_words(reference, hypothesis)
        reference_words = counts.hits + counts.substitutions + counts.deletions
        output_words = counts.hits + counts.substitutions + counts.insertions
        return Score(
            100 * (1 - counts.hits / reference_words * counts.hits / max(1, output_words)), 1
        )
