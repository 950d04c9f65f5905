"""`audiotok metrics`: a list of metrics, tasks and baselines."""

from __future__ import annotations

from typing import Any

from audiotok.cli import console as show
from audiotok.cli.commands.base import Json

PANEL = "Evaluation"


def metrics(as_json: Json = False) -> None:
    """List the metrics, tasks and baselines of `bench`, with their variants and protocols.

    \b
    Examples:
      audiotok metrics
      audiotok bench --codec speech --data talks/ --metrics pesq,stoi:extended
    """
    from audiotok._platform.registry import parts

    rows: list[dict[str, Any]] = []
    for name, kind in parts("metrics").items():
        try:
            metric = kind()
            details = {"unit": metric.unit, "better": metric.better, "protocol": metric.protocol}
        except Exception as error:  # of another package, and the others are listed all the same
            show.error(f"metric {name!r}: {type(error).__name__}: {error}")
            continue
        rows.append({"kind": "metric", "name": name, "variants": list(metric.options), **details})
    for name, kind in parts("tasks").items():
        protocol = _first(kind.__doc__)
        rows.append({"kind": "task", "name": name, "protocol": protocol})
    for name, kind in parts("baselines").items():
        protocol = _first(kind.__doc__)
        rows.append({"kind": "anchor", "name": name, "protocol": protocol})
    if as_json:
        show.as_json(rows)
        return
    for row in rows:
        variants = f" ({', '.join(row['variants'])})" if row.get("variants") else ""
        better = f"{row['better']} is better; " if "better" in row else ""
        show.entry(row["kind"], f"{row['name']}{variants}", f"{better}{row['protocol']}")


def _first(text: str | None) -> str:
    """Return the first paragraph of a docstring, without its full stop."""
    return " ".join((text or "").split("\n\n")[0].split()).rstrip(".")
