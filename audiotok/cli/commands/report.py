"""`audiotok report`: the report of a bench, written again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audiotok.cli import console as show
from audiotok.cli.commands.base import Json

PANEL = "Evaluation"


def report(
    folder: Annotated[Path, typer.Argument(help="Folder that `audiotok bench` wrote.")],
    clips: Annotated[
        int, typer.Option(min=0, help="Number of recordings to listen to on the page.")
    ] = 8,
    title: Annotated[str, typer.Option(help="Title of the page. Default: that of the bench.")] = "",
    as_json: Json = False,
) -> None:
    """Write the report of a bench again, from its results.json and the audio beside it.

    report.html is self-contained: it can be mailed, and opens without a network.

    \b
    Examples:
      audiotok report runs/bench
      audiotok report runs/bench --clips 20 --title "Four rates of speech"
    """
    from audiotok.evaluation.report import write_report
    from audiotok.evaluation.results import Results

    results = Results.load(folder / "results.json")
    files = write_report(results, folder, clips=clips, title=title)
    if as_json:
        show.as_json([str(file) for file in files])
    else:
        for file in files:
            show.line(str(file))
