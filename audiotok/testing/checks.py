"""Tools of all contracts: closeness of tensors, refusals, and pieces of random sizes.

Sizes are drawn by hypothesis where it is installed, which then reports the smallest that fail;
otherwise from a fixed seed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor


def assert_close(one: Tensor, other: Tensor, tolerance: float = 1e-5) -> None:
    """Assert equal shapes, and values equal up to a fraction of the largest value."""
    assert one.shape == other.shape, f"{tuple(one.shape)} is not {tuple(other.shape)}"
    if one.numel():
        worst = (one - other).abs().max().item()
        assert worst <= tolerance * max(1e-3, other.abs().max().item()), f"off by {worst:.2e}"


def assert_refuses(call: Callable[[], Any], match: str) -> None:
    """Assert that a call raises ValueError with a message in which a pattern is found."""
    try:
        call()
        message = "nothing"
    except ValueError as error:
        message = str(error)
    assert re.search(match, message), f"refused with {message}; expected is {match!r}"


@dataclass(frozen=True)
class Sizes:
    """Lists of sizes of pieces, in which some are more common than others.

    Attributes:
        most: the largest size; the smallest is 0.
        longest: largest number of sizes.
        shortest: smallest number of sizes.
        common: sizes that make up half of each list.
    """

    most: int
    longest: int
    shortest: int = 0
    common: tuple[int, ...] = ()

    def strategy(self) -> Any:
        """Return the strategy of hypothesis that draws such lists."""
        from hypothesis import strategies as st

        sizes = st.integers(0, self.most)
        if self.common:
            sizes = st.sampled_from(self.common) | sizes
        return st.lists(sizes, min_size=self.shortest, max_size=self.longest)

    def draw(self, random: np.random.Generator) -> list[int]:
        """Return such a list, drawn without hypothesis."""
        count = int(random.integers(self.shortest, self.longest + 1))
        sizes = random.integers(0, self.most + 1, count)
        if self.common:
            sizes = np.where(random.random(count) < 0.5, random.choice(self.common, count), sizes)
        return sizes.tolist()


def for_all(check: Callable[..., None], *kinds: Sizes, examples: int) -> None:
    """Run a check on lists of sizes, one list of each kind at a time.

    Args:
        check: function of as many lists as there are kinds; it raises AssertionError.
        kinds: the kinds of lists.
        examples: number of times to run it.
    """
    try:
        from hypothesis import given, settings
    except ImportError:
        random = np.random.default_rng(0)
        for _ in range(examples):
            check(*(kind.draw(random) for kind in kinds))
        return
    strategies = [kind.strategy() for kind in kinds]
    settings(max_examples=examples, deadline=None)(given(*strategies)(check))()


def pieces(x: Any, sizes: list[int]) -> list[Any]:
    """Return pieces `[b c n]` of the given sizes, as far as x lasts, and then the rest."""
    cut = []
    for size in sizes:
        cut.append(x[:, :, :size])
        x = x[:, :, size:]
    return [*cut, x]
