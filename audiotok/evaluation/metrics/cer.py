"""CER, character error rate: as WER, by characters; for languages without spaces between words."""

from __future__ import annotations

from audiotok.evaluation.metrics.base import Score, optional_import
from audiotok.evaluation.metrics.wer import Wer
from audiotok.evaluation.scripts import joined, unspaced


class Cer(Wer):
    """Character error rate by the `jiwer` package; a space between words counts as a character."""

    name = "CER"
    by_characters = ""
    pooling = "errors over characters of the text, spaces too, of all recordings together"

    def compare(self, reference: str, hypothesis: str) -> Score:
        """See `Wer.compare`; spaces do not count where the script puts none between words."""
        if unspaced(reference):
            reference, hypothesis = joined(reference), joined(hypothesis)
        counts = optional_import("jiwer").process_characters(reference, hypothesis)
        errors = counts.substitutions + counts.deletions + counts.insertions
        return Score(100 * errors, counts.hits + counts.substitutions + counts.deletions)
