"""Report as one HTML page that loads nothing from outside."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from importlib.resources import files
from pathlib import Path
from typing import Any

from audiotok._platform.console import plain
from audiotok.evaluation.report.bands import HEIGHT, LEFT, RIGHT, WIDTH, bands
from audiotok.evaluation.report.base import (
    INFINITE,
    View,
    best_of,
    competes,
    family,
    kbps,
    places,
    reasons,
)
from audiotok.evaluation.report.clips import embedded
from audiotok.evaluation.report.headline import headline, standing
from audiotok.evaluation.report.matrix import Matrix, matrix, rest
from audiotok.evaluation.results import FEWEST

SCRIPTS = ("page.js", "charts.js", "player.js", "blind.js", "start.js")
ARROWS = {"higher": "↑", "lower": "↓"}


def page(view: View, folder: Path, *, clips: int, title: str) -> str:
    """Return the whole page as HTML.

    Args:
        view: the results.
        folder: folder of the results, to which paths of audio are relative.
        clips: largest number of embedded recordings.
        title: title of the report.
    """
    from jinja2 import Environment, StrictUndefined

    holder = files("audiotok.evaluation.report")
    script = "(function () {\n'use strict';\n"
    script += "\n".join((holder / name).read_text("utf-8") for name in SCRIPTS) + "})();\n"
    entries = list(embedded(view, folder, clips))
    codebooks, best = matrix(view), standing(view).best
    # Every string in the template is escaped, but for the package's own files and JSON.
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, finalize=_shown
    )
    environment.filters["in_script"] = in_script
    template = environment.from_string((holder / "page.html").read_text("utf-8"))
    return template.render(
        title=title,
        css=(holder / "page.css").read_text("utf-8"),
        script=script,
        # The content security policy allows this script only, whatever a transcript contains.
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        about={key: _plain(value) for key, value in view.results.about.items() if key != "title"},
        view=view,
        results=view.results,
        hours=view.hours(),
        headline=headline(view),
        best=best,
        fewest=FEWEST,
        speakers=len({clip.speaker for clip in view.results.clips if clip.speaker}),
        head=[{"about": info, "arrow": ARROWS[info.better]} for info in view.results.metrics],
        rows=_rows(view),
        pairs=_pairs(view),
        tasks=_tasks(view, codebooks),
        matrix=codebooks,
        bands=bands(view),
        frame={"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": WIDTH - RIGHT},
        arrows=ARROWS,
        ran=[info for info in view.results.metrics if not info.not_run],
        data=_data(view, entries, title, best),
        entries=entries,
        asked=clips,
        kbps=kbps,
        reasons=reasons,
    )


def in_script(value: Any) -> str:
    """Return a value as JSON that is safe between script tags: nothing in it can end them."""
    from markupsafe import Markup

    line = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for letter in {c for c in line if not c.isprintable()}:
        line = line.replace(letter, json.dumps(letter)[1:-1])
    for letter in "<>&":
        line = line.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(line)


def _shown(value: Any) -> Any:
    """Return text without control characters; values marked safe stay as they are."""
    return plain(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _plain(value: Any) -> str:
    """Return text as it is and other values as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _rows(view: View) -> list[dict[str, Any]]:
    """Return the rows of the main table."""
    return [
        {
            "subject": subject,
            "competes": competes(subject),
            "cells": [view.cell(subject, info) for info in view.results.metrics],
            "facts": {key: _plain(value) for key, value in subject.facts.items()},
        }
        for subject in view.results.subjects
    ]


def _pairs(view: View) -> list[dict[str, Any]]:
    """Return the rows of paired differences."""
    rows = []
    for pair in view.results.pairs:
        digits = places((pair.difference, pair.low, pair.high))
        row = {"pair": pair, "verdict": view.verdict(pair), "tied": not view.better(pair)}
        row["difference"] = f"{pair.difference:+.{digits}f}"
        row["span"] = f"{pair.low:+.{digits}f} to {pair.high:+.{digits}f}"
        rows.append(row)
    return rows


def _tasks(view: View, codebooks: Matrix | None) -> list[dict[str, Any]]:
    """Return the tables of tasks, without what the matrix of codebooks has."""
    tasks = []
    for task, findings in rest(view, codebooks).items():
        present = {name for row in findings.values() for name in row}
        subjects = [s.name for s in view.results.subjects if s.name in present]
        rows = []
        for name, row in findings.items():
            digits, best = places(finding.value for finding in row.values()), best_of(row)
            one = next(iter(row.values()))
            cells: list[dict[str, Any] | None] = []
            for subject in subjects:
                finding = row.get(subject)
                if finding is None:
                    cells.append(None)
                    continue
                span = ""
                if finding.low is not None and finding.high is not None:
                    span = f"{finding.low:.{digits}f} to {finding.high:.{digits}f}"
                number = "" if finding.value is None else f"{finding.value:.{digits}f}"
                cells.append(
                    {"finding": finding, "text": number, "span": span, "best": subject in best}
                )
            arrow = ARROWS.get(one.better, "")
            rows.append({"name": name, "unit": one.unit, "arrow": arrow, "cells": cells})
        tasks.append({"task": task, "subjects": subjects, "rows": rows})
    return tasks


def _score(value: float | None) -> float | str | None:
    """Return a score for the page's script: a number, "∞", or None."""
    if value is None or math.isfinite(value):
        return None if value is None else float(f"{value:.6g}")
    return INFINITE[str(value)]


def _data(view: View, entries: list[dict[str, Any]], title: str, best: list[str]) -> dict[str, Any]:
    """Return the data for the page's script: names once, then tables by index."""
    results = view.results
    subjects = []
    for subject in results.subjects:
        row = {"name": subject.name, "kind": subject.kind, "kbps": subject.kbps}
        subjects.append(row | {"competes": competes(subject), "family": family(subject.name)})
    metrics = []
    for info in results.metrics:
        row = {"name": info.name, "better": info.better, "unit": info.unit}
        metrics.append(row | {"places": view.places[info.name], "ran": not info.not_run})
    means, scores, errors = [], [], []
    for info in results.metrics:
        cells = [view.means.get((s.name, info.name)) for s in results.subjects]
        ran = not info.not_run
        means.append([[m.value, m.low, m.high] if m and ran else None for m in cells])
        results_by_subject = [
            [view.score(s.name, clip.name, info.name) for clip in results.clips] if ran else []
            for s in results.subjects
        ]
        scores.append([[_score(value) for value, _ in row] for row in results_by_subject])
        errors.append(
            [{i: why for i, (v, why) in enumerate(r) if v is None} for r in results_by_subject]
        )
    return {
        "title": title,
        "about": results.about,
        "best": [subject.name for subject in results.subjects].index(best[0]) if best else -1,
        "subjects": subjects,
        "metrics": metrics,
        "clips": [
            {"name": c.name, "seconds": c.seconds, "speaker": c.speaker, "text": c.text}
            for c in results.clips
        ],
        "means": means,
        "scores": scores,
        "errors": errors,
        "embedded": [entry["clip"] for entry in entries],
    }
