"""Writer of a report's files: the page, Markdown, CSV, and Parquet where pyarrow is installed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from audiotok._platform.atomic import atomic_file
from audiotok._platform.errors import InputError
from audiotok.evaluation.report.base import View
from audiotok.evaluation.report.markdown import markdown
from audiotok.evaluation.report.page import page
from audiotok.evaluation.report.tables import (
    MEANS,
    SCORES,
    mean_rows,
    score_rows,
    write_csv,
    write_parquet,
)
from audiotok.evaluation.results import Results


def write_report(results: Results, folder: Path, *, clips: int = 8, title: str = "") -> list[Path]:
    """Write report.html, report.md, scores.csv, means.csv and scores.parquet.

    Each file appears under its name when it is complete, and replaces an older one. scores.parquet
    needs pyarrow; without it an older one is removed.

    Args:
        results: results of a bench; paths of audio in it are relative to `folder`.
        folder: folder of results.json; created if it is not there.
        clips: largest number of recordings embedded in the page; fewer, if it came to over 15 MB.
        title: title of the report; if empty, that of `results.about`, if it has one.

    Returns:
        The files written.

    Raises:
        ValueError: `clips` is negative, or a name in the results is not unique.
        OSError: a file cannot be written.
    """
    if clips < 0:
        raise InputError(f"clips is {clips}: it must be 0 (none) or more")
    for what in ("clips", "metrics", "subjects"):
        names = Counter(row.name for row in getattr(results, what))
        twice = [name for name, count in names.items() if count > 1]
        if twice:
            raise InputError(f"the results name {twice[0]!r} twice in {what}; names must be unique")
    view = View(results)
    title = title or str(results.about.get("title") or "Bench of audio codecs")
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "report.html": page(view, folder, clips=clips, title=title),
        "report.md": markdown(view, title),
    }
    for name, content in texts.items():
        with atomic_file(folder / name) as part:
            part.write_text(content, "utf-8")
    write_csv(folder / "scores.csv", SCORES, score_rows(view))
    write_csv(folder / "means.csv", MEANS, mean_rows(view))
    files = [*texts, "scores.csv", "means.csv"]
    if write_parquet(folder / "scores.parquet", view):
        files.append("scores.parquet")
    return [folder / name for name in files]
