"""Results as tables for other programs: CSV, and Parquet where pyarrow is installed."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from audiotok._platform.atomic import atomic_file
from audiotok._platform.console import cell
from audiotok.evaluation.report.base import View, reasons

SCORES = ("subject", "recording", "metric", "value", "total", "count", "error")
MEANS = (
    *("subject", "kind", "nominal_kbps", "kbps", "metric", "better", "unit"),
    *("mean", "low", "high", "n", "failed", "reasons", "infinite"),
)


def score_rows(view: View) -> Iterator[tuple[Any, ...]]:
    """Yield a row for every subject, recording and metric, in the columns of `SCORES`.

    Value, total and count are None where there is no score.
    """
    results = view.results
    for subject in results.subjects:
        for clip in results.clips:
            for info in results.metrics:
                value, error = view.score(subject.name, clip.name, info.name)
                row = view.rows.get((subject.name, clip.name, info.name))
                scored = row if value is not None else None
                sums = (scored.total, scored.count) if scored else (None, None)
                yield (subject.name, clip.name, info.name, value, *sums, error)


def mean_rows(view: View) -> Iterator[tuple[Any, ...]]:
    """Yield a row for every subject and metric, in `MEANS`' columns; None for no number."""
    for subject in view.results.subjects:
        for info in view.results.metrics:
            cell = view.cell(subject, info)
            mean = view.means.get((subject.name, info.name)) if cell.state == "value" else None
            low, high = (mean.low, mean.high) if mean else (None, None)
            why = reasons(cell.failed)
            if cell.state in ("not run", "no score"):
                why = f"not run: {info.not_run}" if info.not_run else cell.text
            yield (
                *(subject.name, subject.kind, subject.nominal_kbps, subject.kbps),
                *(info.name, info.better, info.unit),
                *(cell.value, low, high, cell.n, cell.failures, why, cell.apart),
            )


def write_csv(path: Path, columns: Iterable[str], rows: Iterable[tuple[Any, ...]]) -> None:
    """Write a CSV that is safe to open in a spreadsheet; None becomes an empty field."""
    with atomic_file(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(map(cell, row) for row in rows)


def write_parquet(path: Path, view: View) -> bool:
    """Write the scores as Parquet and return True, or remove the file if pyarrow is missing."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        path.unlink(missing_ok=True)  # a file of an earlier run has other scores
        return False
    kinds = dict.fromkeys(SCORES, pyarrow.string())
    kinds |= dict.fromkeys(("value", "total", "count"), pyarrow.float64())
    schema = pyarrow.schema(list(kinds.items()))
    rows = [dict(zip(SCORES, row, strict=True)) for row in score_rows(view)]
    with atomic_file(path) as part:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), str(part))
    return True
