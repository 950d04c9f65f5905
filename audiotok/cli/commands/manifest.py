"""`audiotok manifest`: a list of the recordings of any source, for training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audiotok.cli import console as show
from audiotok.cli.commands.base import Force, Json

PANEL = "Training"


def manifest(
    source: Annotated[
        str,
        typer.Argument(help="Folder, manifest or archive of recordings, as for `corpus build`."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Output .tsv or .jsonl file.")],
    split: Annotated[
        list[str] | None,
        typer.Option(
            help="Split and its share by speakers, NAME=SHARE. Default: the source's, or dev=0.05."
        ),
    ] = None,
    kind: Annotated[str, typer.Option(help="Kind of listing; see `corpus build`.")] = "auto",
    audio: Annotated[
        str, typer.Option(help="Column or member that is the audio, where there are several.")
    ] = "",
    extract: Annotated[
        Path | None,
        typer.Option(help="Folder for audio in archives, which no manifest can name. Default: no."),
    ] = None,
    commands: Annotated[
        bool, typer.Option("--commands", help="Allow shell commands in the listing. Read it first.")
    ] = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """List the recordings of a source, with lengths, speakers and transcripts.

    Transcripts of a folder are read from LibriSpeech's .trans.txt, LJSpeech's
    metadata.csv, or .txt and .lab files of a recording's name. Recordings that
    cannot be read are reported and left out.

    \b
    Examples:
      audiotok manifest recordings/ -o recordings.tsv
      audiotok manifest LibriSpeech/ -o ls.jsonl --split dev=0.02
      audiotok manifest shard-{000..099}.tar -o shards.tsv --extract audio/
    """
    from audiotok.audio.folder import shares
    from audiotok.data.manifest import write_manifest

    summary = write_manifest(
        source,
        out,
        splits=shares(split) if split else None,
        kind=kind,
        audio=audio,
        commands=commands,
        extract=extract,
        force=force,
    )
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
