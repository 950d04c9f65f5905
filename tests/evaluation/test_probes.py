"""The linear probe, on labels that can be read off features, and on labels that cannot."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from audiotok.evaluation.probes.probe import cross_validate, probe


def classes(n: int = 3000, groups: int = 20, apart: float = 3.0, seed: int = 0):
    """Three classes of unit variance, `apart` from each other, on a line; features far off zero."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (n,), generator=random)
    x = torch.randn(n, 4, generator=random)
    x[:, 0] += apart * labels
    return 100 + 7 * x, labels, torch.randint(groups, (n,), generator=random)


def test_accuracy_is_that_of_the_best_boundary():
    found = probe(*classes(20000))
    # Errors of a boundary at half the distance, 1.5 deviations off: two classes have one, one two.
    beyond = 0.0668072
    assert found.accuracy == pytest.approx(1 - 4 / 3 * beyond, abs=0.01)
    assert found.low < found.accuracy < found.high
    assert found.chance == pytest.approx(1 / 3, abs=0.02)
    assert found.trained + found.tested == 20000
    assert found.groups == 5


def test_offset_and_scale_of_a_feature_do_not_matter():
    features, labels, groups = classes()
    found = probe(features, labels, groups)
    scale = torch.tensor([1e-4, 1.0, 1e4, 1.0])
    assert probe(features * scale, labels, groups).accuracy == pytest.approx(
        found.accuracy, abs=1e-3
    )
    constant = torch.cat([features, torch.full((len(features), 1), 1e4)], 1)
    assert probe(constant, labels, groups).accuracy == pytest.approx(found.accuracy, abs=1e-3)


def test_what_cannot_be_read_off_stays_at_chance():
    features, labels, groups = classes()
    found = probe(torch.randn(features.shape), labels, groups)
    assert found.low < found.chance + 0.04
    assert found.accuracy == pytest.approx(1 / 3, abs=0.05)


def test_speakers_are_not_shared_between_training_and_test():
    """A label that only the speaker tells cannot be found in other speakers."""
    groups = torch.randint(10, (2000,))
    features = torch.nn.functional.one_hot(groups).float() + 0.01 * torch.randn(2000, 10)
    labels = torch.tensor(np.random.default_rng(0).permutation(10))[groups]
    assert probe(features, labels, groups).accuracy == 0


def test_the_interval_is_by_group():
    """Groups that differ leave more doubt than as many frames do."""
    features, labels, groups = classes(6000, groups=12)
    mumbled = groups % 2 == 0
    spoilt = torch.where(mumbled[:, None], features[torch.randperm(6000)], features)
    wide = probe(spoilt, labels, groups, held_out=0.5)
    narrow = probe(features, labels, groups, held_out=0.5)
    assert wide.high - wide.low > 5 * (narrow.high - narrow.low)
    # Of six groups about half are at 0.9, half at 1/3: a deviation of 0.28 / sqrt(6), four times.
    assert 0.25 < wide.high - wide.low < 0.6


def test_the_same_seed_gives_the_same_and_one_group_is_refused():
    given = classes(500)
    assert probe(*given) == probe(*given) != probe(*given, seed=1)
    with pytest.raises(ValueError, match="trains and tests on different groups; here is 1"):
        probe(given[0], given[1], torch.zeros_like(given[2]))


def test_every_group_is_tested_once_by_others():
    features, labels, groups = classes(20000, groups=7)
    found = cross_validate(features, labels, groups, folds=3)
    assert found.frames.tolist() == torch.bincount(groups).tolist()
    assert (found.right <= found.frames).all()
    assert found.right.sum() / 20000 == pytest.approx(1 - 4 / 3 * 0.0668072, abs=0.01)
    told = torch.nn.functional.one_hot(groups).float()  # by nothing but the group
    alone = cross_validate(told, groups, groups, folds=7, rounds=20)
    assert alone.right.sum() == 0


def test_bits_are_the_information_of_a_label_that_can_be_read_off():
    """A code that is the label says all of it; one that is it half of the time, what theory has."""
    random = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (40000,), generator=random)
    groups = torch.randint(8, (40000,), generator=random)
    full = cross_validate(torch.nn.functional.one_hot(labels).float(), labels, groups)
    assert full.bits.sum() / full.frames.sum() == pytest.approx(2, abs=0.02)
    guess = torch.randint(4, (40000,), generator=random)
    code = torch.where(torch.rand(40000, generator=random) < 0.5, labels, guess)
    half = cross_validate(torch.nn.functional.one_hot(code).float(), labels, groups)
    right, wrong = 0.5 + 0.5 / 4, 0.5 / 4
    expected = 2 + right * np.log2(right) + 3 * wrong * np.log2(wrong)
    assert half.bits.sum() / half.frames.sum() == pytest.approx(expected, abs=0.01)
    none = cross_validate(torch.randn(40000, 4, generator=random), labels, groups)
    assert none.bits.sum() / none.frames.sum() == pytest.approx(0, abs=0.002)


def test_folds_that_cannot_be_are_refused():
    given = classes(200, groups=3)
    for folds in (1, 4):
        with pytest.raises(ValueError, match=f"3 groups cannot be dealt into {folds} folds"):
            cross_validate(*given, folds=folds)
