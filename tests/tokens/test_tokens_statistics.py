"""Strings of codes: against scipy, scikit-learn and jiwer, and closed forms."""

from __future__ import annotations

from itertools import product

import jiwer
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import mutual_info_score

from audiotok.tokens.statistics import (
    code_counts,
    cross_entropy,
    deduplicated,
    distance,
    entropy,
    entropy_bias,
    huffman,
    mutual_information,
    normalized_edit_distance,
)

COUNTS = st.lists(st.integers(1, 1000), min_size=1, max_size=40).map(np.asarray)


@given(COUNTS)
def test_entropy_is_scipys(counts: np.ndarray):
    assert entropy(counts) == pytest.approx(stats.entropy(counts, base=2), abs=1e-9)


def test_the_shortfall_of_an_entropy_is_what_it_is_low_by():
    random = np.random.default_rng(0)
    drawn = [code_counts(random.integers(0, 16, 400)) for _ in range(300)]
    assert np.mean([entropy(c) + entropy_bias(c) for c in drawn]) == pytest.approx(4, abs=0.001)
    assert np.mean([entropy(c) for c in drawn]) < 3.98


def test_mutual_information_is_scikit_learns():
    random = np.random.default_rng(0)
    a, noise = random.integers(0, 9, 3000), random.integers(0, 3, 3000)
    b = (a // 2 + noise) % 7
    nats = mutual_info_score(a, b)
    assert mutual_information(a, b) == pytest.approx(nats / np.log(2), abs=1e-9)
    assert mutual_information(a, a) == pytest.approx(entropy(code_counts(a)))
    assert mutual_information(a, np.zeros_like(a)) == 0


def test_huffman_lengths_that_are_known():
    assert huffman(np.array([4, 2, 1, 1])) == 1.75  # 1/2, 1/4, 1/8, 1/8
    assert huffman(np.full(64, 3)) == 6
    assert huffman(np.array([9])) == 0
    assert huffman(np.array([1, 1, 1])) == pytest.approx(5 / 3)


@given(COUNTS)
def test_a_huffman_code_is_within_a_bit_of_the_entropy(counts: np.ndarray):
    assert entropy(counts) - 1e-9 <= huffman(counts) < entropy(counts) + 1


def test_runs_become_one():
    assert deduplicated(np.array([3, 3, 3, 1, 3, 1, 1])).tolist() == [3, 1, 3, 1]
    assert deduplicated(np.array([], int)).tolist() == []


def test_distance_is_what_words_errors_are_counted_by():
    random = np.random.default_rng(0)
    for _ in range(20):
        a, b = (random.integers(1, 5, random.integers(1, 12)) for _ in range(2))
        out = jiwer.process_words(" ".join(map(str, a)), " ".join(map(str, b)))
        assert distance(a, b) == out.substitutions + out.deletions + out.insertions


def test_apartness_goes_from_equal_to_nothing_alike():
    a = np.array([1, 1, 2, 3])
    assert normalized_edit_distance(a, np.array([1, 2, 2, 3, 3])) == 0
    assert normalized_edit_distance(a, np.array([7, 8, 9])) == 1
    assert normalized_edit_distance(a, np.array([1, 2, 3, 4])) == 0.25
    assert normalized_edit_distance(a[:0], a[:0]) == 0


@pytest.mark.parametrize("order", [1, 2, 3])
def test_an_n_gram_models_shares_sum_to_one(order: int):
    train = [np.random.default_rng(0).integers(0, 4, 50)]
    strings = [np.array(s) for s in product(range(4), repeat=3)]
    shares = [2 ** (-3 * cross_entropy(train, [s], order)) for s in strings]
    assert sum(shares) == pytest.approx(1)


def test_entropy_rates_that_are_known():
    random = np.random.default_rng(0)
    uniform = [random.integers(0, 8, 5000) for _ in range(2)]
    assert cross_entropy(uniform[:1], uniform[1:], 1) == pytest.approx(3, abs=0.01)
    cycle = [np.arange(4000) % 8 for _ in range(2)]
    assert cross_entropy(cycle[:1], cycle[1:], 1) == pytest.approx(3, abs=0.01)
    assert cross_entropy(cycle[:1], cycle[1:], 2) < 0.03
    # The next code is this one or the one after: a bit, and three without context.
    walks = [np.cumsum(random.integers(0, 2, 8000)) % 8 for _ in range(2)]
    assert cross_entropy(walks[:1], walks[1:], 2) == pytest.approx(1, abs=0.02)
    with pytest.raises(ValueError, match="strings to learn from"):
        cross_entropy([], uniform, 2)
