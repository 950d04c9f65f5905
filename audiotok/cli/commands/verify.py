"""`audiotok verify`: integrity checks of .tok files."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import typer

from audiotok.cli import console as show
from audiotok.cli.commands.base import Json, Paths

PANEL = "Tokens"


def verify(paths: Paths, as_json: Json = False) -> None:
    """Check every byte of .tok files; report damage and the seconds that can be recovered.

    \b
    Examples:
      audiotok verify talk.tok
      audiotok verify tokens/
    """
    from audiotok.runtime.batch.plan import find
    from audiotok.tokens import TokenFileError
    from audiotok.tokens import verify as check

    matches, missing = find(paths, [".tok"])
    lost = {"ok": False, "recoverable_seconds": 0.0}
    rows: list[dict[str, Any]] = [{"file": f, **lost, "damage": [line]} for f, line in missing]
    for file, _ in matches:
        try:
            rows.append({"file": str(file), **asdict(check(file))})
        except TokenFileError as error:
            rows.append({"file": str(file), **lost, "damage": [str(error)]})
    for row in rows:
        if not row["ok"]:
            show.error(show.damaged(row))
    if as_json:
        show.as_json(rows)
    else:
        show.line(f"{sum(row['ok'] for row in rows)} of {len(rows)} files are whole")
    if not all(row["ok"] for row in rows):
        raise typer.Exit(1)
