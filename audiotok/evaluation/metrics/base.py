"""Interface of a metric: the score of one recording, and scores that pool over a corpus."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from audiotok._platform.errors import Error, InputError
from audiotok._platform.optional import MissingModelError, optional_import, version
from audiotok.audio.audio import Audio

__all__ = [
    "InfiniteScoreError",
    "Metric",
    "MissingModelError",
    "OpinionMetric",
    "Score",
    "check_not_silent",
    "listener_input",
    "optional_import",
    "pair",
    "version",
]


SHORTEST = 0.1  # seconds: of less no listener has an opinion


@dataclass(frozen=True)
class Score:
    """Score of recordings: a sum and the number of units it is over (seconds, recordings, words).

    `Score + Score` pools both.

    Raises:
        ValueError: a total or count is NaN or infinite, which would spoil every mean it enters.
    """

    total: float
    count: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.total) and math.isfinite(self.count)):
            raise InputError(f"the score came out as {self.total} over {self.count}")

    def __add__(self, other: Score) -> Score:
        return Score(self.total + other.total, self.count + other.count)

    @property
    def value(self) -> float:
        """The mean, `total / count`.

        Raises:
            ValueError: the count is zero.
        """
        if self.count == 0:
            raise InputError("no recording was scored")
        return self.total / self.count


class InfiniteScoreError(Error, ValueError):
    """A score that is infinite by definition, such as the SI-SDR of an exact copy.

    It is a result and no failure, but no mean could hold it.

    Args:
        message: what is infinite, and why.
        value: infinity, or minus infinity.
    """

    def __init__(self, message: str, value: float = math.inf) -> None:
        super().__init__(message)
        self.value = value


class Metric:
    """Metric of one output against one reference.

    Attributes:
        better: "higher" or "lower".
        unit: unit of a value: "dB", "%", "MOS"; "" where there is none.
        protocol: conditions that a number depends on (rate, settings, library); printed beside it.
        parts: keys of `models` that the metric uses.
        options: names of its variants, beside the default one.
        groups: names that stand for several variants in a bench.
        aligned: whether output and reference are compared sample by sample, so that both must have
            the same length; if not, the output is evaluated alone, or by its words or its voice.
    """

    better: str
    unit: str = ""
    protocol: str
    parts: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    groups: ClassVar[Mapping[str, tuple[str, ...]]] = MappingProxyType({})
    aligned: bool = True

    def __init__(self, option: str = "", *, models: Mapping[str, str] | None = None) -> None:
        """Create the metric without loading any model.

        Args:
            option: variant, the part behind the colon in `dnsmos:sig`; "" is the default variant.
            models: model to use for each part ("recognizer", "embedder", "utmos" ...): a name or a
                local path, for a family of parts `PART:NAME`.

        Raises:
            ValueError: there is no such option; the message lists those there are.
        """
        if option and option not in self.options:
            known = f"only {', '.join(self.options)}" if self.options else "it has none"
            if self.groups:
                known += f"; a benchmark also takes {', '.join(self.groups)}, for several of them"
            raise InputError(f"metric {type(self).__name__} has no variant {option!r}: {known}")
        self.option = option
        self.models = dict(models or {})

    def score(self, output: Audio, reference: Audio, text: str | None = None) -> Score:
        """Return the score of one recording.

        Args:
            output: the decoded recording.
            reference: the original recording.
            text: its transcript; None or empty where it is not known.

        Raises:
            ValueError: the recording cannot be scored; the message says why. Such a failure is
                never turned into a number.
            InfiniteScoreError: the score is infinite.
            ImportError: the library that computes the metric is not installed.
            MissingModelError: model weights are missing; the message says where to put them.
        """
        raise NotImplementedError

    def score_many(
        self,
        outputs: Sequence[Audio],
        references: Sequence[Audio],
        texts: Sequence[str | None] | None = None,
    ) -> list[Score | ValueError]:
        """Return the score of each recording, or the error that kept it from having one.

        The scores equal those of `score`. Metrics whose model gains from batches override this;
        none of them pads, since padding would change scores.

        Args:
            outputs: the decoded recordings.
            references: the original recordings, in the same order.
            texts: their transcripts, as in `score`; None where none is known.

        Raises:
            ImportError, MissingModelError: as in `score`: no recording could be scored.
        """
        scores: list[Score | ValueError] = []
        texts = texts or [None] * len(outputs)
        for output, reference, text in zip(outputs, references, texts, strict=True):
            try:
                scores.append(self.score(output, reference, text))
            except MissingModelError:
                raise
            except ValueError as error:
                scores.append(error)
        return scores


class OpinionMetric(Metric):
    """Metric that predicts the opinion of listeners from outputs alone, without a reference.

    Outputs of one length are evaluated in batches, and none is padded.
    """

    better = "higher"
    unit = "MOS"
    aligned = False
    rate = 16000
    batch = 60  # seconds of audio in a batch, unless a single output is longer

    def opinions(self, waves: Float[Tensor, "b t"]) -> Float[Tensor, " b"]:
        """Return the predicted opinion of each waveform `[b t]` at `rate`."""
        raise NotImplementedError

    def score(self, output: Audio, reference: Audio, text: str | None = None) -> Score:
        """See `Metric.score`; the reference is not used."""
        (result,) = self.score_many([output], [reference])
        if isinstance(result, ValueError):
            raise result
        return result

    @torch.inference_mode()
    def score_many(
        self,
        outputs: Sequence[Audio],
        references: Sequence[Audio],
        texts: Sequence[str | None] | None = None,
    ) -> list[Score | ValueError]:
        """See `Metric.score_many`."""
        scores: dict[int, Score | ValueError] = {}
        by_length: dict[int, list[tuple[int, Tensor]]] = {}
        for i, output in enumerate(outputs):
            try:
                wave = listener_input(output, self.rate)
                by_length.setdefault(len(wave), []).append((i, wave))
            except ValueError as error:
                scores[i] = error
        for length, group in by_length.items():
            size = max(1, self.batch * self.rate // length)
            for batch in (group[at : at + size] for at in range(0, len(group), size)):
                values = self.opinions(torch.stack([wave for _, wave in batch])).tolist()
                for (i, _), value in zip(batch, values, strict=True):
                    try:
                        scores[i] = Score(value, 1)
                    except ValueError as error:
                        scores[i] = error
        return [scores[i] for i in range(len(outputs))]


def check_not_silent(metric: str, **recordings: Audio) -> None:
    """Raise unless none of the given recordings is silent.

    Recordings are checked at their own rate, because resampling turns the ends of a constant offset
    into clicks.

    Args:
        metric: name of the metric, for the message.
        **recordings: recordings by their role, such as `output` and `reference`.

    Raises:
        ValueError: a recording is silent.
    """
    for name, audio in recordings.items():
        if audio.mono().silent:
            raise InputError(f"{metric}: the {name} is silent")


def listener_input(output: Audio, rate: int) -> Tensor:
    """Return mono samples `[t]` at `rate` for an opinion model, clipped at full scale as in a file.

    Raises:
        ValueError: the output has no samples, is silent or shorter than `SHORTEST`: a model would
            make up an opinion.
    """
    mono = output.mono()
    if not len(mono):
        raise InputError("the output has no samples")
    if mono.silent:
        raise InputError("the output is silent")
    if mono.seconds < SHORTEST:
        raise InputError(f"the output is too short: {mono.seconds:.4f} s, {SHORTEST} s are needed")
    return mono.resample(rate).samples[0].clamp(-1, 1)


def pair(output: Audio, reference: Audio, *, rate: int | None = None) -> tuple[Tensor, Tensor]:
    """Return output and reference as mono samples `[t]` of one length, at one rate.

    Args:
        output: the decoded recording.
        reference: the original recording.
        rate: sampling rate in Hz; None: the output's.

    Raises:
        ValueError: the lengths differ by more than one sample, or there are no samples.
    """
    rate = rate or output.rate
    estimate = output.mono().resample(rate).samples[0]
    target = reference.mono().resample(rate).samples[0]
    if abs(len(estimate) - len(target)) > 1:
        raise InputError(f"the output has {len(estimate)} samples, the reference {len(target)}")
    length = min(len(estimate), len(target))
    if not length:
        raise InputError("no samples to compare")
    return estimate[:length], target[:length]
