"""Voices held against each other: by numbers worked out by hand, and at chance."""

from __future__ import annotations

import math

import pytest
import torch

from audiotok.evaluation.probes.voices import code_histogram, compare_speakers


def test_three_speakers_by_hand():
    enrolled = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, 0.0]])
    heard = torch.tensor([[3.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
    made = compare_speakers(heard, enrolled)
    assert made.own.tolist() == pytest.approx([1.0, 0.8, 0.0])
    assert made.others.tolist() == pytest.approx([-0.5, 0.0, 0.5])
    assert made.closer.tolist() == [1.0, 1.0, 0.25]  # less like than one, as like as the other
    assert made.identified.tolist() == [1.0, 1.0, 0.0]


def test_what_says_nothing_of_the_speaker_is_at_chance():
    random = torch.Generator().manual_seed(0)
    heard, enrolled = (torch.randn(2000, 64, generator=random) for _ in range(2))
    made = compare_speakers(heard, enrolled)
    assert made.closer.mean() == pytest.approx(0.5, abs=0.03)
    assert made.identified.mean() < 0.005
    same = compare_speakers(torch.ones(5, 3), torch.ones(5, 3))  # all alike: nobody is found
    assert same.identified.sum() == 0
    assert same.closer.tolist() == [0.5] * 5


def test_one_speaker_is_refused():
    with pytest.raises(ValueError, match="told from others; here is 1"):
        compare_speakers(torch.ones(1, 3), torch.ones(1, 3))


def test_counts_have_bhattacharyyas_coefficient():
    a, b = code_histogram(torch.tensor([0, 0, 1, 2]), 4), code_histogram(torch.tensor([[0, 3]]), 4)
    assert float(a @ a) == pytest.approx(1)
    assert float(a @ b) == pytest.approx(math.sqrt(0.5 * 0.5))
