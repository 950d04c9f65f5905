"""Report as Markdown: the main table, protocols, pairs, findings and failures."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from audiotok._platform.console import flat
from audiotok.evaluation.report.bands import bands
from audiotok.evaluation.report.base import Cell, View, best_of, competes, kbps, places, reasons
from audiotok.evaluation.report.headline import headline
from audiotok.evaluation.report.matrix import Matrix, matrix, rest
from audiotok.evaluation.results import Finding

ARROWS = {"higher": "↑", "lower": "↓"}


def text(value: object) -> str:
    """Return a text in one line, with the special characters of Markdown and HTML escaped."""
    line = flat(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~$])", r"\\\1", line)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> list[str]:
    """Return the lines of a table; columns past the first `left` are numbers.

    Args:
        head: names of the columns.
        rows: cells, already escaped.
        left: number of columns of text.
    """
    rule = [":--" if i < left else "--:" for i in range(len(head))]
    return ["| " + " | ".join(row) + " |" for row in [head, rule, *rows]]


def markdown(view: View, title: str) -> str:
    """Return the whole report as Markdown."""
    results = view.results
    codebooks = matrix(view)
    lines = [f"# {text(title)}", "", f"**{text(headline(view))}**", ""]
    lines += [f"- {text(key)}: {text(value)}" for key, value in results.about.items()]
    lines += [f"- scored: {len(results.clips)} recordings, {view.hours():.3f} h", ""]
    for warning in view.warnings():
        lines += [f"> **Warning:** {text(warning)}", ""]
    heads = [f"{text(a.name)} {ARROWS[a.better]} {text(a.unit)}".strip() for a in results.metrics]
    rows = []
    for subject in results.subjects:
        cells = [_cell(view.cell(subject, info)) for info in results.metrics]
        name = text(subject.name) if competes(subject) else f"*{text(subject.name)}*"
        if subject.side_information:
            name += f" (side information: {text(subject.side_information)})"
        rows.append([name, kbps(subject.kbps), kbps(subject.nominal_kbps), *cells])
    lines += ["## Scores", ""]
    lines += table(["subject", "kbps", "nominal kbps", *heads], rows)
    lines += [
        "",
        "Mean [95 % interval], n recordings where some have no score; bold: the best among codecs, "
        "≈: cannot be told apart from it; ∞: infinite, and in no mean; in italics: rows to compare "
        "with.",
        "",
        "## Protocols",
        "",
    ]
    for info in results.metrics:
        state = f" **Not run:** {text(info.not_run)}." if info.not_run else ""
        lines.append(f"- **{text(info.name)}** ({info.better} is better): {text(info.protocol)}")
        lines[-1] += f".{state}" if state else ""
    return "\n".join(
        [
            *lines,
            *_pairs(view),
            *_bands(view),
            *_codebooks(codebooks),
            *_findings(view, codebooks),
            *_failures(view),
            "",
        ]
    )


def _cell(cell: Cell) -> str:
    """Return a cell of the main table."""
    if cell.state not in ("value", "infinite"):
        return text(cell.text)
    number = f"**{cell.text}**" if cell.best else f"{cell.text} ≈" if cell.tied else cell.text
    span = f" [{cell.span}]" if cell.span else ""
    counts = [f"n={cell.n}"] if cell.failed or cell.apart else []
    counts += [cell.apart] if cell.apart else []
    counts += [f"{cell.failures} failed"] if cell.failed else []
    return number + span + (f" {', '.join(counts)}" if counts else "")


def _pairs(view: View) -> list[str]:
    """Return the lines of the section of paired differences."""
    if not view.results.pairs:
        return []
    rows = []
    for pair in view.results.pairs:
        digits = places((pair.difference, pair.low, pair.high))
        span = f"{pair.low:+.{digits}f} to {pair.high:+.{digits}f}"
        names = [text(name) for name in (pair.metric, pair.a, pair.b)]
        numbers = [f"{pair.difference:+.{digits}f}", span, str(pair.n), text(view.verdict(pair))]
        rows.append([*names, *numbers])
    head = ["metric", "a", "b", "a - b", "95 % interval", "n", "so"]
    return ["", "## Paired differences", "", *table(head, rows, left=3)]


def _bands(view: View) -> list[str]:
    """Return the lines of the section of errors per mel band."""
    known = bands(view)
    if known is None:
        return []
    rows = [
        [text(row.subject), *(f"**{c.text}**" if c.best else text(c.text) for c in row.cells)]
        for row in known.rows
    ]
    lines = table(["dB in bands centred at", *map(text, known.names)], rows)
    return ["", "## Error per mel band", "", *lines]


def _codebooks(known: Matrix | None) -> list[str]:
    """Return the lines of the matrix of codebooks."""
    if known is None:
        return []
    numbers = [str(k + 1) for k in range(known.codebooks)]
    rows = [
        [
            " ".join((text(fact.name), ARROWS.get(fact.better, ""), text(fact.unit))).strip(),
            text(", ".join([row.subject, *row.also])),
            *("" if entry is None else entry.text for entry in row.entries),
        ]
        for fact in known.facts
        for row in fact.rows
    ]
    lines = table(["of each codebook", "codec", *numbers], rows, left=2)
    lines = ["", "## Codebooks", "", *lines]
    return [*lines, "", *(f"- {text(note)}" for note in known.notes)] if known.notes else lines


def _findings(view: View, codebooks: Matrix | None) -> list[str]:
    """Return the lines of the sections of tasks, without what the matrix of codebooks has."""
    lines: list[str] = []
    for task, findings in rest(view, codebooks).items():
        present = {name for row in findings.values() for name in row}
        subjects = [s.name for s in view.results.subjects if s.name in present]
        rows = []
        for name, row in findings.items():
            best, digits = best_of(row), places(f.value for f in row.values())
            one = next(iter(row.values()))
            label = " ".join((text(name), ARROWS.get(one.better, ""), text(one.unit)))
            cells = [_finding(row.get(s), digits, best=s in best) for s in subjects]
            rows.append([label.strip(), *cells])
        lines += ["", f"## Task: {text(task)}", "", *table(["", *map(text, subjects)], rows)]
        notes = dict.fromkeys(f.note for row in findings.values() for f in row.values() if f.note)
        lines += ["", *(f"- {text(note)}" for note in notes)] if notes else []
    return lines


def _finding(finding: Finding | None, digits: int, *, best: bool) -> str:
    """Return the cell of a finding."""
    if finding is None:
        return ""
    if finding.value is None:
        return f"not measured ({text(finding.note)})" if finding.note else "not measured"
    number = f"{finding.value:.{digits}f}"
    number = f"**{number}**" if best else number
    if finding.low is not None and finding.high is not None:
        number += f" [{finding.low:.{digits}f} to {finding.high:.{digits}f}]"
    return number


def _failures(view: View) -> list[str]:
    """Return the lines of the section of failures."""
    rows = []
    for subject in view.results.subjects:
        for info in view.results.metrics:
            cell = view.cell(subject, info)
            if cell.failed:
                names = [text(subject.name), text(info.name)]
                rows.append([*names, str(cell.failures), str(cell.n), text(reasons(cell.failed))])
    if not rows:
        return ["", "## Failures", "", "None."]
    head = ["subject", "metric", "failed", "n that remain", "reasons (recordings)"]
    return ["", "## Failures", "", *table(head, rows, left=2)]
