"""Facts on single codebooks as one matrix: a row for each codec, a column for each codebook."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from audiotok.evaluation.report.base import View, family
from audiotok.evaluation.report.usage import strips
from audiotok.evaluation.results import Finding, Subject
from audiotok.tokens.statistics import EntryUse

DEAD = "dead entries"
SHOWN = 32  # most columns: those of 80 mel bands would be as wide as five pages
OF_CODEBOOK = re.compile(r"(.+) of codebook (\d+)")


@dataclass(frozen=True)
class Entry:
    """Entry of the matrix: one fact on one codebook of one codec.

    Attributes:
        value: the number; None if it was not measured.
        note: what the number is over, or why there is none.
        heat: share of the highest possible or highest seen value, 0 to 1.
        strip: picture of the use of the entries, "" for other facts.
        text: the number as text.
    """

    value: float | None
    note: str = ""
    heat: float = 0.0
    strip: str = field(default="", compare=False)
    text: str = field(default="", compare=False)


@dataclass(frozen=True)
class Row:
    """Row of the matrix, which stands for all rates of a codec that have the same numbers."""

    subject: str
    also: list[str]
    entries: list[Entry | None]  # one for each column of the matrix


@dataclass(frozen=True)
class Fact:
    """Fact on codebooks with a row for each codec."""

    name: str
    unit: str
    better: str
    rows: list[Row]


@dataclass(frozen=True)
class Matrix:
    """Facts on single codebooks.

    Attributes:
        codebooks: number of columns.
        facts: the facts, those on the use of entries first.
        names: task -> names of the findings that are in the matrix.
        notes: sentences on what cannot be said.
    """

    codebooks: int
    facts: list[Fact]
    names: dict[str, set[str]]
    notes: list[str]


Key = tuple[str, str, str]  # name, unit and better of a fact
Facts = dict[Key, dict[int, Entry]]  # fact -> number of a codebook -> entry


def matrix(view: View) -> Matrix | None:
    """Return the matrix of all facts on single codebooks; None where there are none."""
    facts: dict[str, Facts] = {s.name: dict(_use(s)) for s in view.results.subjects}
    names = _findings(view, facts)
    facts = {subject: own for subject, own in facts.items() if own}
    if not facts:
        return None
    counts = {name: max(map(max, own.values())) for name, own in facts.items()}
    columns = min(SHOWN, max(counts.values()))
    groups = _groups(facts)
    keys = dict.fromkeys(key for own in facts.values() for key in own)
    shown = [_fact(key, facts, groups, columns) for key in keys]
    return Matrix(
        columns,
        [fact for fact in shown if fact.name != DEAD or _measured(fact)],  # else `_notes` says it
        names,
        [*_notes(view, groups), *_cut(counts, groups)],
    )


def rest(view: View, known: Matrix | None) -> dict[str, dict[str, dict[str, Finding]]]:
    """Return the findings of tasks that a matrix has not, by task, name and subject."""
    names = known.names if known else {}
    tasks = {
        task: {name: row for name, row in rows.items() if name not in names.get(task, ())}
        for task, rows in view.tasks().items()
    }
    return {task: rows for task, rows in tasks.items() if rows}


def _use(subject: Subject) -> Iterator[tuple[Key, dict[int, Entry]]]:
    """Yield the facts on the use of entries of a codec."""
    rows = strips(subject)
    if not rows:
        return
    uses = [EntryUse(row["used"], row["size"], row["frames"]) for row in rows]
    yield (
        ("entries seen", "%", "higher"),
        {
            row["codebook"]: Entry(100 * row["share"], str(use), row["share"], row["strip"])
            for row, use in zip(rows, uses, strict=True)
        },
    )
    yield (
        ("perplexity", "", "higher"),
        {
            row["codebook"]: Entry(
                row["perplexity"], f"of {row['size']:,}", row["perplexity"] / row["size"]
            )
            for row in rows
        },
    )
    yield (
        (DEAD, "", "lower"),
        {
            row["codebook"]: Entry(use.dead, str(use), (use.dead or 0) / use.size)
            for row, use in zip(rows, uses, strict=True)
        },
    )


def _findings(view: View, facts: dict[str, Facts]) -> dict[str, set[str]]:
    """Add the findings of tasks on every codebook of a codec, and return their names by task.

    Those that are known from the use of entries already are not added again.
    """
    names: dict[str, set[str]] = {}
    for task, rows in view.tasks().items():
        grouped: dict[str, dict[int, dict[str, Finding]]] = {}
        for name, row in rows.items():
            match = OF_CODEBOOK.fullmatch(name)
            if match:
                grouped.setdefault(match[1], {})[int(match[2])] = row
        for name, books in grouped.items():
            if len(books) < 2 or sorted(books) != list(range(1, len(books) + 1)):
                continue
            names.setdefault(task, set()).update(f"{name} of codebook {k}" for k in books)
            for k, row in books.items():
                for subject, f in row.items():
                    own = facts.setdefault(subject, {})
                    known = {key[0] for key, entries in own.items() if k in entries}
                    if name not in known:
                        entry = Entry(f.value, f.note)
                        own.setdefault((name, f.unit, f.better), {})[k] = entry
    return names


def _groups(facts: dict[str, Facts]) -> dict[str, list[str]]:
    """Return the codecs that get a row -> those whose numbers are the first of it."""
    groups: dict[str, list[str]] = {}
    for name in sorted(facts, key=lambda name: -max(map(len, facts[name].values()))):
        within = (other for other in groups if _within(name, other, facts))
        whole = next(within, None)
        groups.setdefault(whole or name, [])
        if whole:
            groups[whole].append(name)
    return {name: sorted(groups[name], key=list(facts).index) for name in facts if name in groups}


def _within(name: str, other: str, facts: dict[str, Facts]) -> bool:
    """Return whether a codec has the facts of another rate of it, and no other entries."""
    same = family(name) == family(other) and facts[name].keys() == facts[other].keys()
    return same and all(
        entry == facts[other].get(key, {}).get(k)
        for key, entries in facts[name].items()
        for k, entry in entries.items()
    )


def _fact(key: Key, facts: dict[str, Facts], groups: dict[str, list[str]], columns: int) -> Fact:
    """Return one fact with the rows of all codecs that have it."""
    values = [e.value for own in facts.values() for e in own.get(key, {}).values()]
    top = max((abs(value) for value in values if value is not None), default=0.0)
    digits = (1 if top >= 10 else 2) if any(v and v != int(v) for v in values) else 0
    rows = []
    for subject, also in groups.items():
        entries = facts[subject].get(key)
        if entries is not None:
            shown = [_shown(entries.get(k), digits, top) for k in range(1, columns + 1)]
            rows.append(Row(subject, also, shown))
    return Fact(*key, rows)


def _measured(fact: Fact) -> bool:
    """Return whether a fact has a number anywhere."""
    return any(entry and entry.value is not None for row in fact.rows for entry in row.entries)


def _shown(entry: Entry | None, digits: int, top: float) -> Entry | None:
    """Return an entry with its text, and with a heat where it has none."""
    if entry is None:
        return None
    text = "?" if entry.value is None else f"{entry.value:,.{digits}f}"
    heat = entry.heat or (abs(entry.value or 0) / top if top else 0.0)
    return Entry(entry.value, entry.note, heat, entry.strip, text)


def _cut(counts: dict[str, int], groups: dict[str, list[str]]) -> Iterator[str]:
    """Yield a sentence for each codec with more codebooks than are shown."""
    for name in groups:
        if counts[name] > SHOWN:
            yield f"{name}: the first {SHOWN} of {counts[name]} codebooks; results.json has all."


def _notes(view: View, groups: dict[str, list[str]]) -> Iterator[str]:
    """Yield a sentence for each codec with too few frames to call entries dead."""
    for subject in view.results.subjects:
        if subject.name not in groups:
            continue
        uses = [EntryUse(row["used"], row["size"], row["frames"]) for row in strips(subject)]
        few = [use for use in uses if use.dead is None]
        if few:
            yield f"{subject.name}: {max(few, key=lambda use: use.size).too_few}."
