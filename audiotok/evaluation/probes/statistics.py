"""Confidence intervals by bootstrap, of one system's mean and of the difference of two.

A corpus's value is the sum of its recordings' totals over the sum of their counts (words, seconds,
or one each), so recordings are drawn, each with its total and its count (Efron and Tibshirani 1993,
chapter 13; paired, for recognizers: Bisani and Ney 2004).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from audiotok._platform.errors import InputError

Rows = Float[np.ndarray, " n"]
Others = Float[np.ndarray, " m"]  # rows of another system, whose number is checked


def bootstrap(
    totals: Rows, counts: Rows, *, draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % percentile interval of `totals.sum() / counts.sum()` over drawn recordings.

    Args:
        totals: total of each recording.
        counts: count of each recording; a draw in which they sum to zero is left out.
        draws: number of draws of as many recordings as there are, with replacement.
        seed: random seed of the draws.

    Raises:
        ValueError: there are no recordings, or all counts are zero.
    """
    return _interval(_means(totals, counts, _weights(len(totals), draws, seed)))


def paired(
    a: tuple[Rows, Rows], b: tuple[Others, Others], *, draws: int = 1000, seed: int = 0
) -> tuple[float, float, float]:
    """Return the difference of two corpus values, a's minus b's, and its 95 % interval.

    Both have the same recordings in the same order, and each draw takes the same recordings of
    both, so that the difficulty of a recording cancels.

    Args:
        a: totals and counts of one system.
        b: totals and counts of the other.
        draws: number of draws of as many recordings as there are, with replacement.
        seed: random seed of the draws.

    Returns:
        Difference, low end, high end.

    Raises:
        ValueError: the lengths differ, there are no recordings, or all counts are zero.
    """
    if len(a[0]) != len(b[0]):
        raise InputError(f"{len(a[0])} recordings cannot be paired with {len(b[0])}")
    weights = _weights(len(a[0]), draws, seed)
    low, high = _interval(_means(*a, weights) - _means(*b, weights))
    difference = a[0].sum() / a[1].sum() - b[0].sum() / b[1].sum()
    return float(difference), low, high


def _weights(n: int, draws: int, seed: int) -> Float[np.ndarray, "draws n"]:
    """Return how often each draw takes each recording."""
    if not n:
        raise InputError("no recordings to draw from")
    random = np.random.default_rng(seed)
    return random.multinomial(n, np.full(n, 1 / n), size=draws).astype(float)


def _means(totals: Rows, counts: Rows, weights: np.ndarray) -> np.ndarray:
    """Return the value of each draw, NaN where its counts sum to zero."""
    sums = weights @ counts
    if not counts.sum():
        raise InputError("nothing to count: a mean over zero")
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(sums > 0, (weights @ totals) / sums, np.nan)


def _interval(means: np.ndarray) -> tuple[float, float]:
    """Return the 2.5 and 97.5 percentiles."""
    low, high = np.nanpercentile(means, [2.5, 97.5])
    return float(low), float(high)
