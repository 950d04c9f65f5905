"""Lookups in results for all parts of the report: cells, best values, reasons, warnings."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from audiotok.evaluation.results import (
    FEWEST,
    Finding,
    Mean,
    MetricInfo,
    Pair,
    Results,
    ScoreRow,
    Subject,
)

ORIGINAL = "original"  # the subject whose audio is the input
FEW = 10  # recordings: the intervals over fewer are too narrow by a tenth and more
INFINITE = {"inf": "∞", "-inf": "-∞"}
# Metrics that predict an opinion, which is high for fluent speech even if its words are wrong.
OPINIONS = ("utmos", "dnsmos", "distillmos", "nisqa", "visqol", "pesq", "squim_mos", "sigmos")


@dataclass(frozen=True)
class Cell:
    """Cell of the main table, for a subject and a metric.

    Attributes:
        state: kind of cell; only a "value" has a finite number.
        text: the number, or "∞", "failed (REASON)", "not run", "no score".
        value: the unrounded number; infinite where all scores are.
        span: its 95 % interval as text, "" where there is none.
        n: number of recordings scored, those of infinite scores only where all are.
        failed: reason -> number of recordings.
        apart: recordings of infinite scores, which the number leaves out: "2 are ∞"; "" if none.
        best: whether it is the best of the competing subjects.
        tied: whether the paired difference to a best one tells nothing, on enough recordings.
    """

    state: Literal["value", "infinite", "failed", "not run", "no score"]
    text: str
    value: float | None = None
    span: str = ""
    n: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    apart: str = ""
    best: bool = False
    tied: bool = False

    @property
    def failures(self) -> int:
        """Number of recordings without a score."""
        return sum(self.failed.values())


def reasons(failed: dict[str, int]) -> str:
    """Return failures as `REASON (3); REASON (1)`, most frequent first."""
    ranked = sorted(failed.items(), key=lambda item: -item[1])
    return "; ".join(f"{reason} ({count})" for reason, count in ranked)


def family(subject: str) -> str:
    """Return the name that all rates of a codec share: the part before "@" or ":"."""
    return subject.split("@")[0].split(":")[0]


def places(values: Iterable[float | None]) -> int:
    """Return the decimal places that suit all these numbers: about four digits of the largest."""
    top = max((abs(value) for value in values if value is not None), default=0.0)
    if top == 0:
        return 3
    return min(max(3 - math.floor(math.log10(top)), 0), 9) if top >= 10 or top < 0.1 else 3


def competes(subject: Subject) -> bool:
    """Return whether a subject is a codec of some kind, not an original, a resampling or noise."""
    rates = (subject.kbps, subject.nominal_kbps)
    return subject.kind != "anchor" or any(rate is not None for rate in rates)


def kbps(rate: float | None) -> str:
    """Return a rate in kbps as text, "" where there is none."""
    return "" if rate is None else f"{rate:.3g}" if rate < 1000 else f"{rate:.0f}"


class View:
    """Results indexed for lookup by subject, recording and metric."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self.infos = {info.name: info for info in results.metrics}
        self.means: dict[tuple[str, str], Mean] = {(m.subject, m.metric): m for m in results.means}
        self.rows: dict[tuple[str, str, str], ScoreRow] = {
            (row.subject, row.clip, row.metric): row for row in results.scores
        }
        self._pairs = {(p.metric, frozenset((p.a, p.b))): p for p in results.pairs}
        self.places = {info.name: self._places(info.name) for info in results.metrics}
        self._best = {info.name: self._bests(info) for info in results.metrics}

    def _places(self, metric: str) -> int:
        """Return the decimal places of a metric's means."""
        return places(mean.value for (_, name), mean in self.means.items() if name == metric)

    def _bests(self, info: MetricInfo) -> set[str]:
        """Return the competing subjects with the best mean of a metric."""
        values = {
            subject.name: level
            for subject in self.results.subjects
            if competes(subject) and (level := self.level(subject.name, info.name)) is not None
        }
        if len(values) < 2 or info.not_run:
            return set()
        top = (max if info.better == "higher" else min)(values.values())
        return {name for name, value in values.items() if value == top}

    def level(self, subject: str, metric: str) -> float | None:
        """Return the mean of a subject in a metric, or infinity where all its scores are."""
        mean = self.means.get((subject, metric))
        return None if mean is None or self.infos[metric].not_run else mean.level

    def pair(self, metric: str, one: str, other: str) -> Pair | None:
        """Return the pair of two subjects in a metric, whichever comes first in the results."""
        return self._pairs.get((metric, frozenset((one, other))))

    def better(self, pair: Pair) -> str:
        """Return the subject that a pair shows to be better; "" where it shows none."""
        info = self.infos.get(pair.metric)
        if info is None or pair.outcome not in ("higher", "lower"):
            return ""
        return pair.a if pair.outcome == info.better else pair.b

    def number(self, metric: str, value: float) -> str:
        """Return a number of a metric as text, with the decimal places of its column."""
        return f"{value:.{self.places[metric]}f}"

    def cell(self, subject: Subject, info: MetricInfo) -> Cell:
        """Return the cell of a subject in a metric; it never has a number that was not measured."""
        if info.not_run:
            return Cell("not run", "not run")
        mean = self.means.get((subject.name, info.name))
        if mean is None or (mean.value is None and not mean.failed and not mean.infinite):
            return Cell("no score", "no score")
        apart = ", ".join(f"{count} are {INFINITE[sign]}" for sign, count in mean.infinite.items())
        best = subject.name in self._best[info.name]
        if mean.value is None and mean.infinite:
            return Cell(
                "infinite",
                " and ".join(INFINITE[sign] for sign in mean.infinite),
                mean.level,
                n=sum(mean.infinite.values()),
                failed=mean.failed,
                apart=apart if mean.level is None else "",
                best=best,
            )
        if mean.value is None:
            first = max(mean.failed, key=lambda reason: mean.failed[reason])
            return Cell("failed", f"failed ({first})", failed=mean.failed)
        span = ""
        if mean.low is not None and mean.high is not None:
            low, high = self.number(info.name, mean.low), self.number(info.name, mean.high)
            span = f"{low} to {high}"
        return Cell(
            "value",
            self.number(info.name, mean.value),
            mean.value,
            span,
            mean.n,
            mean.failed,
            apart,
            best,
            not best and competes(subject) and self._ties(subject.name, info.name),
        )

    def _ties(self, subject: str, metric: str) -> bool:
        """Return whether a subject cannot be told apart from a best one in a metric."""
        pairs = [self.pair(metric, subject, b) for b in self._best[metric]]
        return any(pair is not None and pair.outcome in ("equal", "tied") for pair in pairs)

    def verdict(self, pair: Pair) -> str:
        """Return which of two subjects is better as text, or why that is not known."""
        if pair.outcome == "few":
            return f"too few to tell (n = {pair.n})"
        if pair.outcome == "equal":
            return "equal"
        if pair.outcome == "tied":
            return "cannot be told apart"
        better = self.better(pair)
        return f"{better} is better" if better else "differ"

    def score(self, subject: str, clip: str, metric: str) -> tuple[float | None, str]:
        """Return the score of a recording and "", or None and the reason why there is none."""
        info = self.infos[metric]
        if info.not_run:
            return None, f"not run: {info.not_run}"
        row = self.rows.get((subject, clip, metric))
        if row is None:
            return None, "no score was recorded"
        if row.value is None or row.error:
            return None, row.error or "nothing to score"
        return row.value, ""

    def hours(self) -> float:
        """Return the total length of the recordings in hours."""
        return sum(clip.seconds for clip in self.results.clips) / 3600

    def warnings(self) -> list[str]:
        """Return warnings on few recordings, and on opinions without a word error rate."""
        count = len(self.results.clips)
        few = f"Only {count} recording{'s' if count > 1 else ''}: "
        if count < FEWEST:
            few += f"too few to tell codecs apart, for which {FEWEST} are needed at the least."
        else:
            few += "intervals over so few are too narrow, and say little of other recordings."
        return ([few] if 0 < count < FEW else []) + self._bare_opinions()

    def _bare_opinions(self) -> list[str]:
        """Return a warning where predicted opinions have no word error rate beside them."""
        opinions = [a for a in self.results.metrics if _is_opinion(a) and not a.not_run]
        words = [a for a in self.results.metrics if a.name.split(":")[0] == "wer" and not a.not_run]
        if not opinions:
            return []
        names = ", ".join(info.name for info in opinions)
        if not words:
            return [
                f"No WER beside {names}: a predicted opinion of the sound says nothing of "
                "whether the words survived."
            ]
        bare = [
            subject.name
            for subject in self.results.subjects
            if any(self.cell(subject, info).value is not None for info in opinions)
            and all(self.cell(subject, info).value is None for info in words)
        ]
        return [f"No WER beside {names} for: {', '.join(bare)}."] if bare else []

    def tasks(self) -> dict[str, dict[str, dict[str, Finding]]]:
        """Return findings by task, name and subject."""
        grouped: dict[str, dict[str, dict[str, Finding]]] = {}
        for finding in self.results.findings:
            rows = grouped.setdefault(finding.task, {})
            rows.setdefault(finding.name, {})[finding.subject] = finding
        return grouped


def _is_opinion(info: MetricInfo) -> bool:
    """Return whether a metric predicts the opinion of listeners."""
    return info.unit.upper().startswith("MOS") or info.name.split(":")[0] in OPINIONS


def best_of(row: dict[str, Finding]) -> set[str]:
    """Return the subjects with the best value of a finding; none where no direction is better."""
    values = {name: f.value for name, f in row.items() if f.value is not None}
    better = {f.better for f in row.values()}
    if len(values) < 2 or better not in ({"higher"}, {"lower"}):
        return set()
    top = (max if better == {"higher"} else min)(values.values())
    return {name for name, value in values.items() if value == top}
