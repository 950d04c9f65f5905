"""Headline of a report: what was compared, and which row is best in all metrics together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from audiotok.evaluation.report.bands import BANDS
from audiotok.evaluation.report.base import View, competes, family, kbps
from audiotok.evaluation.results import FEWEST, MetricInfo, Subject

# Kind of a metric -> names; each kind counts as much as another, however many metrics it has.
KINDS = {
    "opinion": ("utmos", "dnsmos", "distillmos", "nisqa"),
    "words": ("wer", "cer", "mer", "wil"),
    "voice": ("speaker",),
}
NAMED = 4  # rows that a sentence names


@dataclass(frozen=True)
class Standing:
    """Standing of the competing rows over all metrics.

    Attributes:
        kinds: kind of metric -> metrics that at least two rows have scores in.
        beaten: row -> metric -> rows that the paired differences show to be better there; None
            where the row has no score and others do.
        best: rows that are beaten least, by the mean over kinds of the share of rows that beat
            them; the one with the best ranks of means first.
    """

    kinds: dict[str, list[str]]
    beaten: dict[str, dict[str, list[str] | None]]
    best: list[str]

    @property
    def metrics(self) -> list[str]:
        """All metrics of `kinds`."""
        return [metric for metrics in self.kinds.values() for metric in metrics]


def kind_of(metric: str) -> str:
    """Return the kind of a metric: opinion, words, voice, or fidelity to the original."""
    name = metric.split(":")[0]
    return next((kind for kind, names in KINDS.items() if name in names), "fidelity")


def standing(view: View) -> Standing:
    """Return the standing of the competing rows.

    Args:
        view: the results.
    """
    rows = [subject.name for subject in view.results.subjects if competes(subject)]
    kinds: dict[str, list[str]] = {"fidelity": [], "opinion": [], "words": [], "voice": []}
    for info in view.results.metrics:
        # Bands are parts of `mel`, and would make its share as much larger.
        if info.name not in BANDS and sum(view.level(r, info.name) is not None for r in rows) > 1:
            kinds[kind_of(info.name)].append(info.name)
    kinds = {kind: metrics for kind, metrics in kinds.items() if metrics}
    metrics = [metric for some in kinds.values() for metric in some]
    beaten = {row: {metric: _beaten(view, rows, row, metric) for metric in metrics} for row in rows}
    scored = [row for row in rows if any(view.level(row, metric) is not None for metric in metrics)]

    def share(row: str) -> float:
        return _over_kinds(kinds, {m: _share(by, len(rows)) for m, by in beaten[row].items()})

    def rank(row: str) -> float:
        return _over_kinds(kinds, {m: _rank(view, rows, row, view.infos[m]) for m in metrics})

    least = min(map(share, scored), default=0.0)
    best = sorted((row for row in scored if share(row) <= least + 1e-9), key=rank)
    return Standing(kinds, beaten, best)


def headline(view: View) -> str:
    """Return what was compared, over how many recordings, and the best row, in two sentences."""
    subjects = {s.name: s for s in view.results.subjects if competes(s)}
    count = len(view.results.clips)
    codecs = len({s.name if s.kind == "folder" else family(s.name) for s in subjects.values()})
    rows = f" in {len(subjects)} rows" if len(subjects) > codecs else ""
    compared = (
        f"{codecs} codec{'s' if codecs != 1 else ''}{rows}{_range(subjects)} on {count} "
        f"recording{'s' if count != 1 else ''}."
    )
    return f"{compared} {_verdict(view, standing(view), subjects)}"


def _verdict(view: View, state: Standing, subjects: Mapping[str, Subject]) -> str:
    """Return the sentence on the best row."""
    if len(subjects) < 2:
        return "There is nothing to compare with."
    if not state.metrics:
        return "No metric has scores of two of them."
    over = ", ".join(f"{kind} ({', '.join(names)})" for kind, names in state.kinds.items())
    names = [_named(subjects[row], subjects) for row in state.best]
    most = max((pair.n for pair in view.results.pairs), default=len(view.results.clips))
    if most < FEWEST:
        return (
            f"Too few to tell which is best (n = {most}); "
            f"the means of {names[0]} rank highest over {over}."
        )
    if not any(by for row in state.beaten.values() for by in row.values()):
        return f"Over {over}, no two of them can be told apart."
    if len(state.best) > 1:
        return f"Over {over} together, {_listed(names)} share the best place{_worse(state)}."
    tied = [row for row in subjects if row != state.best[0] and _tied(view, state, row)]
    also = f"; {_listed(tied)} cannot be told apart from it in any metric" if tied else ""
    return f"Over {over} together, {names[0]} is best{_worse(state)}{also}."


def _worse(state: Standing) -> str:
    """Return where the best row is beaten: ", though opus:6 is better in stoi"; "" if nowhere."""
    parts: dict[str, list[str]] = {}
    for metric, by in state.beaten[state.best[0]].items():
        if by:
            parts.setdefault(_listed(by), []).append(metric)
        elif by is None:
            parts.setdefault("", []).append(metric)
    texts = [
        f"{rows} {'is' if ' ' not in rows else 'are'} better in {', '.join(metrics)}"
        if rows
        else f"it has no score in {', '.join(metrics)}"
        for rows, metrics in parts.items()
    ]
    whose = f" than {state.best[0]}" if texts and len(state.best) > 1 else ""
    return f", though {'; '.join(text + whose for text in texts)}" if texts else ""


def _beaten(view: View, rows: Sequence[str], row: str, metric: str) -> list[str] | None:
    """Return the rows shown to be better in a metric; None where this row has no score."""
    level = view.level(row, metric)
    if level is None:
        return None
    better = []
    for other in rows:
        theirs = view.level(other, metric)
        pair = view.pair(metric, row, other)
        # Between infinite scores, or a finite and an infinite one, there is no difference to draw.
        if theirs in (float("inf"), float("-inf")) or level in (float("inf"), float("-inf")):
            higher = view.infos[metric].better == "higher"
            if theirs is not None and (theirs > level if higher else theirs < level):
                better.append(other)
        elif pair is not None and view.better(pair) == other:
            better.append(other)
    return better


def _share(by: list[str] | None, rows: int) -> float:
    """Return the share of the other rows that beat a row; all of them where it has no score."""
    return 1.0 if by is None else len(by) / max(1, rows - 1)


def _rank(view: View, rows: Sequence[str], row: str, info: MetricInfo) -> float:
    """Return how many rows have a better mean in a metric."""
    sign = 1 if info.better == "higher" else -1
    levels = {name: view.level(name, info.name) for name in rows}
    level = levels.pop(row)
    if level is None:
        return len(rows)
    return sum(other is not None and sign * other > sign * level for other in levels.values())


def _over_kinds(kinds: dict[str, list[str]], values: dict[str, float]) -> float:
    """Return the mean over kinds of the mean over the metrics of each."""
    means = [sum(values[m] for m in metrics) / len(metrics) for metrics in kinds.values()]
    return sum(means) / max(1, len(means))


def _tied(view: View, state: Standing, row: str) -> bool:
    """Return whether a row cannot be told apart from the best one in any metric."""
    pairs = [view.pair(metric, row, state.best[0]) for metric in state.metrics]
    return all(pair is not None and pair.outcome in ("equal", "tied") for pair in pairs)


def _rate(subject: Subject) -> float | None:
    """Return the rate of a row in kbps, as written or else as stated."""
    return subject.kbps if subject.kbps is not None else subject.nominal_kbps


def _rates(subjects: Mapping[str, Subject]) -> list[float]:
    """Return the rates of the rows that have one, lowest first."""
    return sorted(rate for s in subjects.values() if (rate := _rate(s)) is not None)


def _named(subject: Subject, among: Mapping[str, Subject]) -> str:
    """Return the name of a row with its rate."""
    rate, rates = _rate(subject), _rates(among)
    if rate is None:
        return subject.name
    highest = ", the highest rate" if rate == rates[-1] > rates[0] else ""
    return f"{subject.name} ({kbps(rate)} kbps{highest})"


def _range(subjects: Mapping[str, Subject]) -> str:
    """Return the range of the rows' rates in kbps, "" where none has one."""
    known = [kbps(rate) for rate in _rates(subjects)]
    if not known:
        return ""
    span = known[0] if known[0] == known[-1] else f"{known[0]} to {known[-1]}"
    return f" at {span} kbps"


def _listed(names: Sequence[str]) -> str:
    """Return names as "a, b and c", the last ones by their number where there are many."""
    if len(names) > NAMED:
        names = [*names[: NAMED - 1], f"{len(names) - NAMED + 1} others"]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
