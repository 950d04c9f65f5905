"""What every metric promises: the score of one recording, and scores that add up to a corpus's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from audiotok._platform.optional import MissingModelError, needed, version
from audiotok.audio.audio import Audio

__all__ = [
    "Listener",
    "Metric",
    "MissingModelError",
    "Score",
    "heard",
    "needed",
    "pair",
    "sounding",
    "version",
]


@dataclass(frozen=True)
class Score:
    """A sum and what it is a sum over: seconds, recordings, words. `Score + Score` pools them.

    Raises:
        ValueError: NaN or infinite, which would spoil every mean it goes into.
    """

    total: float
    count: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.total) and math.isfinite(self.count)):
            raise ValueError(f"the score came out as {self.total} over {self.count}")

    def __add__(self, other: Score) -> Score:
        return Score(self.total + other.total, self.count + other.count)

    @property
    def value(self) -> float:
        """The mean.

        Raises:
            ValueError: a mean over nothing.
        """
        if self.count == 0:
            raise ValueError("no recording was scored")
        return self.total / self.count


class Metric:
    """A metric of one output against one reference.

    Attributes:
        better: "higher" or "lower".
        unit: of a value: "dB", "%", "MOS"; "" where there is none.
        protocol: what a number depends on: rate, settings, library; printed beside it.
        parts: of `models` that it asks for.
        options: its variants, beside the usual one.
        aligned: whether output and reference are compared moment by moment, so that both must be
            of one length; if not, the output is heard by itself, or for its words or its voice.
    """

    better: str
    unit: str = ""
    protocol: str
    parts: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    aligned: bool = True

    def __init__(self, option: str = "", *, models: Mapping[str, str] | None = None) -> None:
        """A metric, before any model is loaded.

        Args:
            option: what stands behind the colon in `dnsmos:sig`; "" is the usual variant.
            models: which model for which part: "recognizer", "embedder", "utmos" ...; a name or a
                local path, for a family of parts `PART:NAME`.

        Raises:
            ValueError: no such option; the message lists what there is.
        """
        if option and option not in self.options:
            known = f"only {', '.join(self.options)}" if self.options else "it has none"
            raise ValueError(f"metric {type(self).__name__} has no variant {option!r}: {known}")
        self.option, self.models = option, dict(models or {})

    def score(self, output: Audio, reference: Audio, text: str | None = None) -> Score:
        """The score of one recording.

        Args:
            output: what came back.
            reference: the original.
            text: what is said in it; None or empty where nobody knows.

        Raises:
            ValueError: it cannot be scored; says why. It never becomes a number.
            ImportError: the library that computes it is not installed.
            MissingModelError: weights it needs are not here; says where to put them.
        """
        raise NotImplementedError

    def score_many(
        self,
        outputs: Sequence[Audio],
        references: Sequence[Audio],
        texts: Sequence[str | None] | None = None,
    ) -> list[Score | ValueError]:
        """The score of each recording, or why it has none; equal to those of one at a time.

        A metric whose model gains by a batch does its own; none pads, which would change scores.

        Raises:
            ImportError, MissingModelError: as in `score`: no recording could be scored.
        """
        found: list[Score | ValueError] = []
        texts = texts or [None] * len(outputs)
        for output, reference, text in zip(outputs, references, texts, strict=True):
            try:
                found.append(self.score(output, reference, text))
            except MissingModelError:
                raise
            except ValueError as error:
                found.append(error)
        return found


class Listener(Metric):
    """A model of listeners that hears outputs alone; several of one length at once, none padded."""

    better = "higher"
    unit = "MOS"
    aligned = False
    rate = 16000
    batch = 60  # seconds together, unless one output is longer

    def opinions(self, waves: Float[Tensor, "b t"]) -> Float[Tensor, " b"]:
        """Of samples at `rate`."""
        raise NotImplementedError

    def score(self, output: Audio, reference: Audio, text: str | None = None) -> Score:
        """See `Metric.score`; the reference is not heard."""
        (found,) = self.score_many([output], [reference])
        if isinstance(found, ValueError):
            raise found
        return found

    @torch.inference_mode()
    def score_many(
        self,
        outputs: Sequence[Audio],
        references: Sequence[Audio],
        texts: Sequence[str | None] | None = None,
    ) -> list[Score | ValueError]:
        """See `Metric.score_many`."""
        found: dict[int, Score | ValueError] = {}
        alike: dict[int, list[tuple[int, Tensor]]] = {}
        for i, output in enumerate(outputs):
            try:
                wave = heard(output, self.rate)
                alike.setdefault(len(wave), []).append((i, wave))
            except ValueError as error:
                found[i] = error
        for length, some in alike.items():
            size = max(1, self.batch * self.rate // length)
            for batch in (some[at : at + size] for at in range(0, len(some), size)):
                values = self.opinions(torch.stack([wave for _, wave in batch])).tolist()
                for (i, _), value in zip(batch, values, strict=True):
                    try:
                        found[i] = Score(value, 1)
                    except ValueError as error:
                        found[i] = error
        return [found[i] for i in range(len(outputs))]


def sounding(metric: str, **recordings: Audio) -> None:
    """Raise unless each of these recordings, given by what it is, has something to hear.

    They are looked at as they are: resampling turns the ends of an offset into clicks.

    Raises:
        ValueError: one is silent.
    """
    for name, audio in recordings.items():
        if audio.mono().silent:
            raise ValueError(f"{metric}: the {name} is silent")


def heard(output: Audio, rate: int) -> Tensor:
    """Mono samples `[t]` at `rate`, clipped at full scale as in a file, for a model of listeners.

    Raises:
        ValueError: no samples, or silent ones: a model would make up an opinion.
    """
    mono = output.mono()
    if not len(mono):
        raise ValueError("the output has no samples")
    if mono.silent:
        raise ValueError("the output is silent")
    return mono.resample(rate).samples[0].clamp(-1, 1)


def pair(output: Audio, reference: Audio, *, rate: int | None = None) -> tuple[Tensor, Tensor]:
    """Both as mono samples `[t]` of one length, at `rate` (the output's if None).

    Raises:
        ValueError: lengths that differ by more than a sample, or nothing to compare.
    """
    rate = rate or output.rate
    made = output.mono().resample(rate).samples[0]
    wanted = reference.mono().resample(rate).samples[0]
    if abs(len(made) - len(wanted)) > 1:
        raise ValueError(f"the output has {len(made)} samples, the reference {len(wanted)}")
    length = min(len(made), len(wanted))
    if not length:
        raise ValueError("no samples to compare")
    return made[:length], wanted[:length]
