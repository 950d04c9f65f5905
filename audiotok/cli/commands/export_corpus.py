"""`audiotok export-corpus`: export of a token corpus to a format for training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audiotok._platform.registry import shipped
from audiotok.cli import console as show
from audiotok.cli.commands.base import Json

PANEL = "Corpora"
FORMATS = ", ".join(shipped("exporters"))
DIALECTS = ", ".join(shipped("dialects"))


def export_corpus(
    corpus: Annotated[Path, typer.Argument(help="Folder of a token corpus.")],
    to: Annotated[str, typer.Option("--to", help=f"Format: {FORMATS}.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Output folder.")],
    layout: Annotated[
        str,
        typer.Option(
            help=f"Layout by which codes become ids: a layout.json, or that of {DIALECTS}."
        ),
    ] = "",
    pattern: Annotated[
        str, typer.Option(help="Order of ids, instead of a layout: flat, delay, ar_nar ...")
    ] = "",
    codebooks: Annotated[
        int,
        typer.Option(
            "--codebooks", "-k", help="Number of codebooks in the pattern, from the first; 0: all."
        ),
    ] = 0,
    as_json: Json = False,
) -> None:
    """Export a token corpus: codes, and ids if a layout is given. Run again to resume.

    \b
    Examples:
      audiotok export-corpus tokens/english --to parquet -o parquet/
      audiotok export-corpus tokens/english --to megatron --pattern flat -k 4 -o megatron/
      audiotok export-corpus tokens/snac --to jsonl --layout orpheus -o orpheus/
    """
    from rich.progress import Progress

    from audiotok._platform.registry import find
    from audiotok.corpus import Corpus
    from audiotok.lm.exporters.base import export
    from audiotok.lm.layout import Layout, find_layout

    source, chosen = Corpus(corpus), None
    if layout and (pattern or codebooks):
        raise show.UsageError("--layout says all; leave out --pattern and --codebooks")
    if layout:
        chosen = find_layout(layout, source)
    elif pattern or codebooks:
        chosen = Layout.of(source, codebooks=codebooks or None, pattern=pattern or "flat")
    part = find("exporters", to)
    with Progress(console=show.stderr_console) as bar:
        task = bar.add_task("exporting", total=len(source))
        count = export(
            part, source, out, layout=chosen, progress=lambda n: bar.update(task, completed=n)
        )
    if as_json:
        show.as_json({"recordings": count, "out": str(out), "to": to})
    else:
        show.line(f"{count} recordings in {out}")
