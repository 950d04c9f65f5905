"""WER, word error rate: of 100 words said, how many a recognizer gets wrong in the output."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache

from audiotok.audio import Audio
from audiotok.metrics.base import Metric, Score, needed, version
from audiotok.recognizers.base import recognizer


class Wer(Metric):
    """Word error rate by the `jiwer` package, of one transcript that CER, WIL and MER share.

    Output and text go through Whisper's normaliser first (Radford et al. 2022, arXiv:2212.04356,
    appendix C): case, punctuation, numbers, spelling. What a recognizer gets wrong in the original
    already is part of the number, so it means something beside the original's alone. The variant
    `differential` takes for the text what the recognizer hears in the reference.

    `models["recognizer"]` is an `ENGINE:MODEL`, and `models["language"]` what is spoken ("en").
    """

    better = "lower"
    parts = ("recognizer", "language")
    unit = "%"
    options = ("differential",)
    aligned = False
    name = "WER"
    pooling = "errors over words of the text, of all recordings together"

    def __init__(self, option: str = "", *, models: Mapping[str, str] | None = None) -> None:
        super().__init__(option, models=models)
        self.language = self.models.get("language") or "en"
        self.recognizer = recognizer(self.models.get("recognizer") or "", self.language)
        kind = "English" if self.language == "en" else "basic"
        against = "its transcript of the reference" if option else "the text"
        self.protocol = (
            f"{self.recognizer.protocol}; against {against}; {version('whisper-normalizer')}, "
            f"{kind} normaliser; {version('jiwer')}, {self.pooling}"
        )

    def score(self, output: Audio, reference: Audio, text: str | None = None) -> Score:
        """See `Metric.score`."""
        if not self.option and not (text or "").strip():
            usual = type(self).__name__.lower()
            raise ValueError(
                f"{self.name} needs the text of a recording; without one use {usual}:differential"
            )
        clean = normaliser(self.language)
        if self.option:
            if reference.silent:  # Whisper would hear words in it, both times the same
                raise ValueError(f"{self.name}: the reference is silent")
            (text,) = self.recognizer.transcripts([reference])
        wanted = clean(text or "").strip()
        if not any(letter.isalnum() for letter in wanted):  # of "..." it leaves a full stop
            where = "the recognizer hears in the reference" if self.option else "of the text"
            raise ValueError(f"{self.name}: nothing is left {where} once it is normalised")
        (made,) = self.recognizer.transcripts([output])
        return self.compare(wanted, clean(made).strip())

    def score_many(
        self,
        outputs: Sequence[Audio],
        references: Sequence[Audio],
        texts: Sequence[str | None] | None = None,
    ) -> list[Score | ValueError]:
        """See `Metric.score_many`; the recognizer hears them all at once, and remembers."""
        some = (text for text in texts or () if (text or "").strip())
        if self.option or next(some, None):
            self.recognizer.transcripts([output for output in outputs if len(output)])
        return super().score_many(outputs, references, texts)

    def compare(self, wanted: str, made: str) -> Score:
        """The score of normalised words."""
        found = needed("jiwer").process_words(wanted, made)
        errors = found.substitutions + found.deletions + found.insertions
        return Score(100 * errors, found.hits + found.substitutions + found.deletions)


@cache
def normaliser(language: str) -> Callable[[str], str]:
    """Whisper's English normaliser for English, and its basic one for any other language."""
    if language == "en":
        return needed("whisper_normalizer.english", "whisper-normalizer").EnglishTextNormalizer()
    return needed("whisper_normalizer.basic", "whisper-normalizer").BasicTextNormalizer()
