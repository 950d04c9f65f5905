"""The headline of a report: from the numbers alone, and honest about ties and few recordings."""

from __future__ import annotations

import math

import numpy as np
import pytest

from audiotok.evaluation.bench.summary import means, pairs
from audiotok.evaluation.report.base import View
from audiotok.evaluation.report.headline import headline, kind_of, standing
from audiotok.evaluation.results import Clip, MetricInfo, Results, ScoreRow, Subject

BETTER = {
    "pesq": "higher",
    "stoi": "higher",
    "utmos": "higher",
    "wer": "lower",
    "speaker": "higher",
}


def view(scores: dict[str, dict[str, float | None]], *, n: int = 12, noise: float = 0.01) -> View:
    """Results of rows by metric: the mean of each, None where it has no score at all."""
    names = list(dict.fromkeys(name for row in scores.values() for name in row))
    draw = np.random.default_rng(0)
    rows = [
        ScoreRow(name, f"clip-{i}", metric, None, None, "planted")
        if value is None
        else ScoreRow(name, f"clip-{i}", metric, None, None, "", "inf")
        if math.isinf(value)
        else ScoreRow(name, f"clip-{i}", metric, value + draw.normal(0, noise), 1.0)
        for metric, row in scores.items()
        for name, value in row.items()
        for i in range(n)
    ]
    infos = [MetricInfo(metric, BETTER[metric], "", "p") for metric in scores]
    subjects = [Subject("original", "anchor", None, None)]
    subjects += [Subject(name, "codec", None, 1.0 + i) for i, name in enumerate(names)]
    clips = [Clip(f"clip-{i}", "", 1.0) for i in range(n)]
    return View(Results({}, clips, infos, subjects, rows, means(rows), pairs(rows, names), []))


def test_the_best_row_of_all_kinds_together():
    shown = view(
        {
            "pesq": {"a": 1.0, "b": 3.0, "c": 2.0},
            "stoi": {"a": 0.9, "b": 0.7, "c": 0.8},
            "wer": {"a": 9.0, "b": 3.0, "c": 5.0},
        }
    )
    assert headline(shown) == (
        "3 codecs at 1 to 3 kbps on 12 recordings. Over fidelity (pesq, stoi), words (wer) "
        "together, b (2 kbps) is best, though a and c are better in stoi."
    )
    assert standing(shown).best == ["b"]


def test_kinds_count_alike_however_many_metrics_they_have():
    """Two metrics of fidelity do not outvote the words."""
    shown = view(
        {
            "pesq": {"a": 3.0, "b": 1.0},
            "stoi": {"a": 0.9, "b": 0.5},
            "wer": {"a": 9.0, "b": 3.0},
        }
    )
    assert standing(shown).best == ["a", "b"]
    assert headline(shown).endswith(
        "a (1 kbps) and b (2 kbps, the highest rate) share the best place, though b is better in "
        "wer than a."
    )


def test_what_cannot_be_told_apart_is_not_ranked():
    shown = view({"pesq": {"a": 2.0, "b": 2.0}, "wer": {"a": 3.0, "b": 3.0}}, noise=0)
    assert headline(shown).endswith("no two of them can be told apart.")
    third = view({"pesq": {"a": 2.0, "b": 2.1, "c": 0.0}}, noise=0.5)
    assert headline(third).endswith("share the best place.")
    means = {name: third.level(name, "pesq") or 0.0 for name in "ab"}
    first = max(means, key=lambda name: means[name])
    assert standing(third).best[0] == first, "the page opens on it"


@pytest.mark.parametrize("n", [1, 3, 5])
def test_few_recordings_have_no_best(n: int):
    text = headline(view({"pesq": {"a": 1.36, "b": 2.51}}, n=n))
    assert f"Too few to tell which is best (n = {n})" in text
    assert "the means of b (2 kbps, the highest rate) rank highest" in text


def test_a_row_without_scores_does_not_win_by_that():
    shown = view({"pesq": {"a": 3.0, "b": 2.0, "c": 1.0}, "wer": {"a": None, "b": 2.0, "c": 8.0}})
    assert standing(shown).best == ["b"]
    assert standing(shown).beaten["a"]["wer"] is None


def test_an_exact_copy_is_better_than_any_number():
    shown = view({"pesq": {"a": math.inf, "b": 4.0}})
    assert standing(shown).best == ["a"]
    assert "a (1 kbps) is best." in headline(shown)


def test_nothing_to_compare():
    assert headline(view({"pesq": {"a": 1.0}})).endswith("There is nothing to compare with.")
    assert headline(view({"pesq": {"a": 1.0, "b": None}})).endswith(
        "No metric has scores of two of them."
    )


def test_kinds():
    kinds = {m: kind_of(m) for m in ("pesq", "si_sdr:aligned", "dnsmos:sig", "wer", "speaker")}
    assert list(kinds.values()) == ["fidelity", "fidelity", "opinion", "words", "voice"]


def test_rates_of_a_codec_are_one_codec():
    shown = view({"pesq": {"speech@1": 1.0, "speech@2": 2.0, "opus:6": 3.0}})
    assert headline(shown).startswith("2 codecs in 3 rows at 1 to 3 kbps on 12 recordings. ")
