"""What every metric promises: the score of one recording, and scores that add up to a corpus's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

from torch import Tensor

from audiotok.audio import Audio


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
        protocol: what a number depends on: rate, settings, library; printed beside it.
    """

    better: str
    protocol: str

    def score(self, output: Audio, reference: Audio, text: str | None = None) -> Score:
        """The score of one recording.

        Raises:
            ValueError: it cannot be scored; says why. It never becomes a number.
            ImportError: the library that computes it is not installed.
        """
        raise NotImplementedError


def needed(library: str) -> ModuleType:
    """A library of the `metrics` extra.

    Raises:
        ImportError: it is not installed; says how to.
    """
    try:
        return import_module(library)
    except ImportError as error:
        way = f"pip install {library}, or 'audiotok[metrics]'"
        raise ImportError(f"the {library} package cannot be imported ({error}): {way}") from None


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
