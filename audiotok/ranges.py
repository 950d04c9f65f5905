"""From where to where each number of a recipe may be, in one table; `recipe` checks what it reads.

A number outside would end in another library's words hours later, or never be noticed: a
`train.steps` of -1 trains nothing, and says that it is done.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple


class Range(NamedTuple):
    """The least and the greatest value of an option, both allowed unless `above`.

    Attributes:
        least: the smallest.
        most: the greatest.
        above: whether `least` itself is not allowed.
    """

    least: float
    most: float = math.inf
    above: bool = False

    def __contains__(self, value: object) -> bool:
        low = isinstance(value, int | float) and self.least <= value <= self.most
        return low and not (self.above and value == self.least)

    def __str__(self) -> str:
        if self.above:
            low = f"above {self.least:g}"
        else:
            low = f"at least {self.least:g}" if self.least > -math.inf else ""
        high = f"at most {self.most:g}" if self.most < math.inf else ""
        return " and ".join(filter(None, (low, high))) or "a finite number"


ANY = Range(-math.inf)
SHARE = Range(0, 1)
BELOW_ONE = Range(0, 1 - 2**-53)
NONE_OR_MORE = Range(0)
ONE_OR_MORE = Range(1)
ABOVE_ZERO = Range(0, above=True)
SEED = Range(0, 2**63 - 1)  # torch's and numpy's

# Class of a table in a recipe -> its numeric options, and those of lists and tables of numbers.
RANGES: dict[str, dict[str, Range]] = {
    "Recipe": {"loss": NONE_OR_MORE, "loss_from": ONE_OR_MORE},
    "Data": {"seconds": ABOVE_ZERO, "batch": ONE_OR_MORE, "workers": NONE_OR_MORE},
    "Augment": {
        "gain": SHARE,
        "gain_low": ANY,
        "gain_high": ANY,
        "flip": SHARE,
        "band": SHARE,
        "band_low": ABOVE_ZERO,
        "band_high": ABOVE_ZERO,
        "noise": SHARE,
        "snr_low": ANY,
        "snr_high": ANY,
    },
    "TeacherOptions": {"layer": NONE_OR_MORE, "weight": NONE_OR_MORE, "codebooks": ONE_OR_MORE},
    "Distillation": {"units": ONE_OR_MORE},
    "Adversary": {
        "start": NONE_OR_MORE,
        "delay": NONE_OR_MORE,
        "every": ONE_OR_MORE,
        "seconds": NONE_OR_MORE,
        "rate": NONE_OR_MORE,
    },
    "Train": {
        "steps": ONE_OR_MORE,
        "rate": ABOVE_ZERO,
        "warmup": NONE_OR_MORE,
        "cooldown": NONE_OR_MORE,
        "gamma": Range(0, 1, above=True),
        "betas": BELOW_ONE,
        "weight_decay": NONE_OR_MORE,
        "clip": ABOVE_ZERO,
        "accumulate": ONE_OR_MORE,
        "ema": SHARE,
        "whole": SHARE,
        "keep": NONE_OR_MORE,
        "seed": SEED,
        "every": ONE_OR_MORE,
        "score": NONE_OR_MORE,
        "clips": NONE_OR_MORE,
        "codebooks": ONE_OR_MORE,
    },
    "Band": {"step": NONE_OR_MORE, "low": ANY, "high": ANY},
    "BenchData": {"limit": NONE_OR_MORE, "longest": ABOVE_ZERO},
    "BenchRecipe": {"clips": NONE_OR_MORE, "seed": SEED},
    "LmData": {"frames": ONE_OR_MORE, "hidden": BELOW_ONE, "batch": ONE_OR_MORE},
    "LayoutOptions": {"codebooks": NONE_OR_MORE, "pieces": NONE_OR_MORE},
    "Config": {  # of a language model
        "width": ONE_OR_MORE,
        "depth": ONE_OR_MORE,
        "heads": ONE_OR_MORE,
        "dropout": BELOW_ONE,
    },
}


DEEPEST = 20  # tables and lists in each other; recipes here have three


def deep(table: dict[str, Any]) -> bool:
    """Return whether tables and lists are nested more than `DEEPEST` levels deep."""
    level: list[Any] = [table]
    for _ in range(DEEPEST):
        inner = (
            child for one in level for child in (one.values() if isinstance(one, dict) else one)
        )
        level = [child for child in inner if isinstance(child, dict | list)]
        if not level:
            return False
    return True


def check_ranges(options: Any, where: str) -> None:
    """Raise unless every number of one table of a recipe is finite and in its range.

    Args:
        options: a dataclass, filled in.
        where: the file and the table, with which the message begins.

    Raises:
        ValueError: names the option, what it may be, and what it is.
    """
    known = RANGES.get(type(options).__name__, {})
    for field in dataclasses.fields(options):
        span = known.get(field.name, ANY)
        value = getattr(options, field.name)
        parts = value.items() if isinstance(value, Mapping) else [("", value)]
        if isinstance(value, tuple):
            parts = [("", one) for one in value]
        for key, part in parts:
            if not isinstance(part, int | float) or isinstance(part, bool):
                continue
            if not math.isfinite(part) or part not in span:
                name = f"{field.name}.{key}" if key else field.name
                raise ValueError(f"{where}: {name!r} must be {span}, not {part}")
