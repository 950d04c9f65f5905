"""WIL, word information lost: 1 - (hits / words in the text) x (hits / words in the transcript)."""

from __future__ import annotations

from audiotok.evaluation.metrics.base import Score
from audiotok.evaluation.metrics.wer import Wer, aligned


class Wil(Wer):
    """Word information lost (Morris et al. 2004) by the `jiwer` package.

    The value is a product of two ratios, so no ratio of sums stands for a corpus; the mean over
    recordings is used, each counting once.
    """

    name = "WIL"
    pooling = "mean over recordings, each counting once"

    def compare(self, wanted: str, made: str) -> Score:
        """See `Wer.compare`."""
        found = aligned(wanted, made)
        said = found.hits + found.substitutions + found.deletions
        heard = found.hits + found.substitutions + found.insertions
        return Score(100 * (1 - found.hits / said * found.hits / max(1, heard)), 1)
