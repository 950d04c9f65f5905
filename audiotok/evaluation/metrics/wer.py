"""WER, word error rate: share of the text's words that an ASR model gets wrong in the output."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from audiotok._platform.errors import InputError
from audiotok.audio.audio import Audio
from audiotok.evaluation.asr.base import recognizer
from audiotok.evaluation.metrics.base import Metric, Score, optional_import, version
from audiotok.evaluation.scripts import hide_marks, joined, only_latin, show_marks, unspaced

log = logging.getLogger("audiotok")

BY_CHARACTERS = "; texts without spaces between words are counted by characters, which is CER"
# Codes of languages without spaces between words.
UNSPACED = ("bo", "jv", "km", "lo", "my", "ja", "th", "yue", "zh")


class Wer(Metric):
    """Word error rate by the `jiwer` package, from one transcript that CER, WIL and MER share.

    Output and text are normalised by Whisper's normaliser first (Radford et al. 2022,
    arXiv:2212.04356, appendix C): case, punctuation, numbers, spelling. It would remove combining
    marks, which are letters in Hindi or Thai: they are kept, but for English in Latin letters.
    Where a text has no spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese), its
    characters are counted, as in Whisper's own evaluation, and the protocol says so.

    Errors that the recognizer makes on the original already are part of the number, so compare it
    with the original's. The variant `differential` uses the recognizer's transcript of the
    reference as the text.

    `models["recognizer"]` is an `ENGINE:MODEL`, and `models["language"]` the spoken language
    ("en").
    """

    better = "lower"
    parts = ("recognizer", "language")
    unit = "%"
    options = ("differential",)
    aligned = False
    name = "WER"
    by_characters = BY_CHARACTERS
    pooling = "errors over words of the text, of all recordings together"

    def __init__(self, option: str = "", *, models: Mapping[str, str] | None = None) -> None:
        super().__init__(option, models=models)
        self.language = self.models.get("language") or "en"
        self.recognizer = recognizer(self.models.get("recognizer") or "", self.language)
        kind = "English" if self.language == "en" else "basic"
        against = "its transcript of the reference" if option else "the text"
        self.protocol = (
            f"{self.recognizer.protocol}; against {against}; {version('whisper-normalizer')}, "
            f"{kind} normaliser, marks kept; {version('jiwer')}, {self.pooling}"
        )
        if self.language.replace("_", "-").split("-")[0] in UNSPACED:
            self.protocol += self.by_characters

    def score(self, output: Audio, reference: Audio, text: str | None = None) -> Score:
        """See `Metric.score`."""
        if not self.option and not (text or "").strip():
            usual = type(self).__name__.lower()
            raise InputError(
                f"{self.name} needs the text of a recording; without one use {usual}:differential"
            )
        clean = normaliser(self.language)
        if self.option:
            if reference.silent:  # Whisper would hallucinate the same words in both
                raise InputError(f"{self.name}: the reference is silent")
            (text,) = self.recognizer.transcripts([reference])
        reference_text = clean(text or "").strip()
        if not any(
            letter.isalnum() for letter in reference_text
        ):  # the normaliser leaves a full stop of "..."
            where = "the recognizer hears in the reference" if self.option else "of the text"
            raise InputError(f"{self.name}: nothing is left {where} once it is normalised")
        (transcript,) = self.recognizer.transcripts([output])
        if unspaced(reference_text):
            self._say_characters()
        return self.compare(reference_text, clean(transcript).strip())

    def score_many(
        self,
        outputs: Sequence[Audio],
        references: Sequence[Audio],
        texts: Sequence[str | None] | None = None,
    ) -> list[Score | ValueError]:
        """See `Metric.score_many`; all outputs are transcribed at once, texts are cached."""
        some = (text for text in texts or () if (text or "").strip())
        if self.option or next(some, None):
            self.recognizer.transcripts([output for output in outputs if len(output)])
        return super().score_many(outputs, references, texts)

    def compare(self, reference: str, hypothesis: str) -> Score:
        """Return the score of normalised words, or of characters in scripts without spaces.

        Args:
            reference: the reference text.
            hypothesis: the transcript of the output.
        """
        counts = align_words(reference, hypothesis)
        errors = counts.substitutions + counts.deletions + counts.insertions
        return Score(100 * errors, counts.hits + counts.substitutions + counts.deletions)

    def _say_characters(self) -> None:
        """Note in the protocol, and log once, that this language is scored by characters."""
        if self.by_characters and self.by_characters not in self.protocol:
            self.protocol += self.by_characters
            _warn_once(self.name, self.language)


@cache
def _warn_once(name: str, language: str) -> None:
    """Log that texts of a language are counted by characters, once for each metric."""
    message = "%s (%s): texts without spaces between words are counted by characters: this is CER"
    log.warning(message, name, language)


def align_words(reference: str, hypothesis: str) -> Any:
    """Return jiwer's alignment of words, or of characters where no spaces separate words."""
    if unspaced(reference):
        return optional_import("jiwer").process_characters(joined(reference), joined(hypothesis))
    return optional_import("jiwer").process_words(reference, hypothesis)


@cache
def normaliser(language: str) -> Callable[[str], str]:
    """Return Whisper's English normaliser for English, and its basic one for any other language.

    Words that differ by a mark stay different, unlike in Whisper's own: in the basic normaliser in
    every script, in the English one in all but Latin.
    """
    if language == "en":
        english = optional_import(
            "whisper_normalizer.english", "whisper-normalizer"
        ).EnglishTextNormalizer()

        def clean(text: str) -> str:
            if only_latin(text):
                return english(text)
            return show_marks(english(hide_marks(text, latin=False)))

        return clean
    basic = optional_import("whisper_normalizer.basic", "whisper-normalizer").BasicTextNormalizer()
    return lambda text: show_marks(basic(hide_marks(text)))
