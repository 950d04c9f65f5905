"""Intervals: against scipy's bootstrap, against what is known of samples, and their edges."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from audiotok.evaluation.probes.statistics import bootstrap, paired


def sample(n: int = 200, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(3.0, 0.5, n)


def test_equal_to_scipys_percentile_interval():
    values = sample()
    found = bootstrap(values, np.ones(200), draws=20000)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20000, method="percentile", rng=1)
    expected = theirs.confidence_interval
    assert found == pytest.approx((expected.low, expected.high), abs=0.003)


def test_words_are_pooled_not_averaged():
    """As scipy's, of the ratio of two sums drawn together."""
    random = np.random.default_rng(2)
    words = random.integers(1, 40, 300).astype(float)
    errors = random.binomial(words.astype(int), 0.1).astype(float)

    def rate(e: np.ndarray, w: np.ndarray, axis: int) -> np.ndarray:
        return e.sum(axis=axis) / w.sum(axis=axis)

    theirs = stats.bootstrap(
        (errors, words), rate, paired=True, n_resamples=20000, method="percentile", rng=1
    )
    expected = theirs.confidence_interval
    found = bootstrap(errors, words, draws=20000)
    assert found == pytest.approx((expected.low, expected.high), abs=0.001)


def test_holds_the_truth_nineteen_times_in_twenty():
    hits = 0
    for seed in range(200):
        low, high = bootstrap(sample(100, seed), np.ones(100), draws=400, seed=seed)
        hits += low <= 3.0 <= high
    assert 178 <= hits <= 199  # 95 % of 200, give or take four standard deviations


def test_a_pair_is_surer_than_its_parts():
    """Two codecs that differ by 0.05 everywhere, on recordings that differ by far more."""
    hard = np.random.default_rng(3).normal(0, 1.0, 100)
    noise = np.random.default_rng(4).normal(0, 0.02, 100)
    ones = np.ones(100)
    difference, low, high = paired((hard + 0.05, ones), (hard + noise, ones))
    assert difference == pytest.approx(0.05 - noise.mean())
    assert 0.04 < low < difference < high < 0.06
    alone = bootstrap(hard, ones)
    assert alone[1] - alone[0] > 20 * (high - low)


def test_the_same_system_twice_is_zero():
    totals, counts = sample(), np.ones(200)
    assert paired((totals, counts), (totals, counts)) == (0.0, 0.0, 0.0)


def test_the_same_every_time():
    ones = np.ones(200)
    assert bootstrap(sample(), ones) == bootstrap(sample(), ones)
    assert bootstrap(sample(), ones) != bootstrap(sample(), ones, seed=1)


def test_a_recording_that_counts_nothing():
    """Draws of nothing but it have no mean and are left out."""
    low, high = bootstrap(np.array([0.0, 4.0]), np.array([0.0, 2.0]))
    assert (low, high) == (2.0, 2.0)


def test_what_cannot_be_drawn_from():
    nothing, one = np.zeros(0), np.ones(1)
    with pytest.raises(ValueError, match="no recordings"):
        bootstrap(nothing, nothing)
    with pytest.raises(ValueError, match="over zero"):
        bootstrap(one, np.zeros(1))
    with pytest.raises(ValueError, match="1 recordings cannot be paired with 200"):
        paired((one, one), (sample(), np.ones(200)))
