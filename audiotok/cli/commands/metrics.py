"""`audiotok metrics`: what a bench can measure."""

from __future__ import annotations

from typing import Any

from audiotok.cli import console as show
from audiotok.cli.commands.base import Json

PANEL = "Evaluation"


def metrics(as_json: Json = False) -> None:
    """List metrics, tasks and anchors, with their variants and what numbers depend on.

    \b
    Examples:
      audiotok metrics
      audiotok bench --codec speech --data talks/ --metrics pesq,stoi:extended
    """
    from audiotok._platform.registry import find, names

    rows: list[dict[str, Any]] = []
    for name in names("metrics"):
        metric = find("metrics", name)()
        about = {"unit": metric.unit, "better": metric.better, "protocol": metric.protocol}
        rows.append({"kind": "metric", "name": name, "variants": list(metric.options), **about})
    for name in names("tasks"):
        about = {"protocol": _first(find("tasks", name).__doc__)}
        rows.append({"kind": "task", "name": name, **about})
    for name in names("anchors"):
        about = {"protocol": _first(find("anchors", name).__doc__)}
        rows.append({"kind": "anchor", "name": name, **about})
    if as_json:
        show.as_json(rows)
        return
    for row in rows:
        variants = f" ({', '.join(row['variants'])})" if row.get("variants") else ""
        better = f"{row['better']} is better; " if "better" in row else ""
        show.entry(row["kind"], f"{row['name']}{variants}", f"{better}{row['protocol']}")


def _first(text: str | None) -> str:
    """The first sentence of a docstring, without its full stop."""
    return " ".join((text or "").split("\n\n")[0].split()).rstrip(".")
