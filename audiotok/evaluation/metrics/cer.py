"""CER, character error rate: as WER, by characters; for languages without spaces between words."""

from __future__ import annotations

from audiotok.evaluation.metrics.base import Score, needed
from audiotok.evaluation.metrics.wer import Wer
from audiotok.evaluation.scripts import joined, unspaced


class Cer(Wer):
    """Character error rate by the `jiwer` package; a space between words counts as a character."""

    name = "CER"
    by_characters = ""
    pooling = "errors over characters of the text, spaces too, of all recordings together"

    def compare(self, wanted: str, made: str) -> Score:
        """See `Wer.compare`; spaces do not count where the script puts none between words."""
        if unspaced(wanted):
            wanted, made = joined(wanted), joined(made)
        found = needed("jiwer").process_characters(wanted, made)
        errors = found.substitutions + found.deletions + found.insertions
        return Score(100 * errors, found.hits + found.substitutions + found.deletions)
