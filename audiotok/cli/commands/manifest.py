"""`audiotok manifest`: a list of the recordings in a folder, for training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audiotok.cli import console as show
from audiotok.cli.commands.base import Force, Json

PANEL = "Training"


def manifest(
    folder: Annotated[Path, typer.Argument(help="Folder of recordings.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Output .tsv or .jsonl file.")],
    split: Annotated[
        list[str] | None,
        typer.Option(help="Split and its share by speakers, NAME=SHARE. Default: dev=0.05."),
    ] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """List the recordings of a folder, with lengths, speakers and transcripts, for training.

    Transcripts are read from LibriSpeech's .trans.txt, LJSpeech's metadata.csv,
    or .txt and .lab files of a recording's name. Unreadable files are reported
    and left out.

    \b
    Examples:
      audiotok manifest recordings/ -o recordings.tsv
      audiotok manifest LibriSpeech/ -o ls.jsonl --split dev=0.02
    """
    from audiotok.audio.folder import shares
    from audiotok.data.manifest import write_manifest

    summary = write_manifest(folder, out, splits=shares(split) if split else None, force=force)
    for _, line in summary.errors:
        show.error(line)
    facts = {
        "recordings": summary.recordings,
        "hours": round(summary.seconds / 3600, 3),
        "with text": summary.texts,
        **{f"split {name}": count for name, count in summary.splits.items()},
        "left out": len(summary.errors),
    }
    if as_json:
        show.as_json(facts)
    else:
        show.facts({"manifest": str(out), **facts})
    if summary.errors:
        raise typer.Exit(1)
