"""CER, character error rate: as WER, by letters; for languages that do not part their words."""

from __future__ import annotations

from audiotok.metrics.base import Score, needed
from audiotok.metrics.wer import Wer


class Cer(Wer):
    """Character error rate by the `jiwer` package; a space between words is a character."""

    name = "CER"
    pooling = "errors over characters of the text, spaces too, of all recordings together"

    def compare(self, wanted: str, made: str) -> Score:
        """The score of normalised words."""
        found = needed("jiwer").process_characters(wanted, made)
        errors = found.substitutions + found.deletions + found.insertions
        return Score(100 * errors, found.hits + found.substitutions + found.deletions)
