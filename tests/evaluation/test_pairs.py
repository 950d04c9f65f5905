"""What a paired difference says: its own interval decides, and few recordings say nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from audiotok.evaluation.bench.summary import means, pairs
from audiotok.evaluation.report.base import View
from audiotok.evaluation.results import FEWEST, MetricInfo, Pair, Results, ScoreRow, Subject

INFOS = {
    "pesq": MetricInfo("pesq", "higher", "MOS", "p"),
    "wer": MetricInfo("wer", "lower", "%", "p"),
}


def rows(metric: str = "pesq", **scores: list[float | None]) -> list[ScoreRow]:
    """A row for each value; None is a recording without a score."""
    return [
        ScoreRow(name, f"clip-{i}", metric, None, None, "planted")
        if value is None
        else ScoreRow(name, f"clip-{i}", metric, None, None, "", str(value))
        if math.isinf(value)
        else ScoreRow(name, f"clip-{i}", metric, value, 1.0)
        for name, values in scores.items()
        for i, value in enumerate(values)
    ]


def view(scores: list[ScoreRow]) -> View:
    names = list(dict.fromkeys(row.subject for row in scores))
    subjects = [Subject(name, "codec", 1.0, 1.0) for name in names]
    infos = [INFOS[name] for name in dict.fromkeys(row.metric for row in scores)]
    return View(Results({}, [], infos, subjects, scores, means(scores), pairs(scores, names), []))


def said(metric: str = "pesq", **scores: list[float | None]) -> str:
    shown = view(rows(metric, **scores))
    (pair,) = shown.results.pairs
    return shown.verdict(pair)


@pytest.mark.parametrize("n", [1, 2, 3, FEWEST - 1])
def test_few_recordings_tell_nothing_however_far_apart(n: int):
    """PESQ 1.36 and 2.51 on three recordings "could not be told apart", which nobody had tried."""
    assert said(a=[1.36] * n, b=[2.51] * n) == f"too few to tell (n = {n})"
    shown = view(rows(a=[1.36] * n, b=[2.51] * n))
    assert not any(shown.cell(s, INFOS["pesq"]).tied for s in shown.results.subjects)


def test_the_fewest_that_tell_are_those_of_a_sign_test():
    assert 2 / 2**FEWEST < 0.05 <= 2 / 2 ** (FEWEST - 1)


@pytest.mark.parametrize("n", [FEWEST, 8, 30])
def test_a_constant_difference_tells(n: int):
    hard = list(np.random.default_rng(0).normal(2, 0.5, n))
    better = [x + 0.01 for x in hard]
    assert said(a=hard, b=better) == "b is better"
    assert said("wer", a=hard, b=better) == "a is better"


def test_the_intervals_of_two_means_may_overlap_where_the_difference_tells():
    hard = np.random.default_rng(1).normal(2, 1.0, 12)
    shown = view(rows(a=list(hard), b=list(hard + 0.1)))
    low, high = (shown.means[name, "pesq"] for name in ("a", "b"))
    assert low.high is not None
    assert high.low is not None
    assert high.low < low.high, "the means by themselves could be the same"
    assert shown.verdict(shown.results.pairs[0]) == "b is better"


def test_ties_and_equals():
    assert said(a=[2.0] * 8, b=[2.0] * 8) == "equal"
    assert said(a=[1.0, 3.0] * 5, b=[3.0, 1.0] * 5) == "cannot be told apart"
    shown = view(rows(a=[1.0, 3.0] * 5, b=[3.0, 1.01] * 5))
    cells = [shown.cell(subject, INFOS["pesq"]) for subject in shown.results.subjects]
    assert [(cell.best, cell.tied) for cell in cells] == [(False, True), (True, False)]


def test_recordings_that_one_lacks_do_not_count():
    some: list[float | None] = [1.0] * 5
    assert said(a=[*some, None, 1.0], b=[*[2.0] * 5, 2.0, None]) == "too few to tell (n = 5)"
    assert said(a=[*some, 1.0, 9.0], b=[*[2.0] * 5, 2.0, None]) == "b is better"
    assert view(rows(a=[1.0, None], b=[None, 1.0])).results.pairs == []


def test_infinite_scores_are_in_no_mean_and_in_no_difference():
    inf = math.inf
    scores = rows(a=[inf] * 8, b=[*[3.0] * 7, inf], c=[-inf, inf, *[1.0] * 6], d=[2.0] * 8)
    shown = view(scores)
    a, b, c, _ = (shown.means[name, "pesq"] for name in "abcd")
    assert (a.value, a.level, a.n, a.failed, a.infinite) == (None, inf, 0, {}, {"inf": 8})
    assert (b.value, b.n, b.failed, b.infinite) == (3.0, 7, {}, {"inf": 1})
    assert (c.value, c.n, c.infinite) == (1.0, 6, {"-inf": 1, "inf": 1})
    known = {(pair.a, pair.b): pair.n for pair in shown.results.pairs}
    assert known == {("b", "c"): 5, ("b", "d"): 7, ("c", "d"): 6}
    cells = {s.name: shown.cell(s, INFOS["pesq"]) for s in shown.results.subjects}
    assert (cells["a"].state, cells["a"].text, cells["a"].best) == ("infinite", "∞", True)
    assert (cells["b"].text, cells["b"].n, cells["b"].apart) == ("3.000", 7, "1 are ∞")
    assert cells["b"].failures == 0


def test_scores_of_both_infinities_alone_have_no_level():
    shown = view(rows(a=[math.inf, -math.inf], b=[1.0, 2.0]))
    cell = shown.cell(shown.results.subjects[0], INFOS["pesq"])
    assert (cell.state, cell.text, cell.value) == ("infinite", "∞ and -∞", None)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.one_of(st.none(), st.floats(-5, 5))] * 2), min_size=1, max_size=25))
def test_a_verdict_is_its_interval_and_turns_with_the_order(
    scores: list[tuple[float | None, float | None]],
):
    a, b = [one for one, _ in scores], [other for _, other in scores]
    both = sum(one is not None and other is not None for one, other in scores)
    first = pairs(rows(a=a, b=b), ["a", "b"], draws=100)
    second = pairs(rows(a=a, b=b), ["b", "a"], draws=100)
    assert len(first) == len(second) == (both > 0)
    turned = {"higher": "lower", "lower": "higher"}
    for one, other in zip(first, second, strict=True):
        assert one.n == other.n == both
        assert turned.get(one.outcome, one.outcome) == other.outcome
        if both < FEWEST:
            assert one.outcome == "few"
        elif one.low > 0 or one.high < 0:
            assert one.outcome == ("higher" if one.low > 0 else "lower")
        else:
            assert one.outcome in ("tied", "equal")


def test_a_difference_of_a_metric_that_is_not_known_has_no_better_side():
    pair = Pair("gone", "a", "b", 1.0, 0.5, 1.5, 9)
    shown = view(rows(a=[1.0], b=[1.0]))
    assert shown.verdict(pair) == "differ"
    assert shown.verdict(replace(pair, n=2)) == "too few to tell (n = 2)"
