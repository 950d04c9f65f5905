"""`audiotok corpus`: token corpora, built and looked after."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from audiotok import show
from audiotok.commands.base import Codebooks, CodecName, Device, Force, Json

PANEL = "Corpora"

corpus = typer.Typer(no_args_is_help=True, help="Token corpora of any size: build, check, change.")
Folder = Annotated[Path, typer.Argument(help="A corpus: the folder that `build` made.")]
New = Annotated[Path, typer.Option("--out", "-o", help="A new folder.")]


@corpus.command()
def build(
    listing: Annotated[
        str,
        typer.Argument(help="A folder, manifest, archive or URL; see --kind.", metavar="LISTING"),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="A folder.")],
    codec: CodecName = "speech",
    codebooks: Codebooks = None,
    kind: Annotated[
        str,
        typer.Option(
            help="auto, or folder, table (tsv, csv, jsonl), kaldi, lhotse, webdataset, "
            "huggingface (hf:NAME@SPLIT), parquet."
        ),
    ] = "auto",
    device: Device = "cpu",
    jobs: Annotated[int, typer.Option("--jobs", "-j", help="Processes; 0: one a core or GPU.")] = 0,
    readers: Annotated[
        int, typer.Option(help="Threads a process that read and resample; 0: as the device needs.")
    ] = 0,
    group: Annotated[
        int, typer.Option(help="Recordings side by side; 0: 1 on a CPU, 16 on a GPU.")
    ] = 0,
    part: Annotated[
        str,
        typer.Option("--shard", help="i/n: only this part, 0/n to (n-1)/n; `merge` joins them."),
    ] = "0/1",
    shard_mb: Annotated[int, typer.Option(min=1, help="Megabytes of codes in a shard.")] = 256,
    most_bad: Annotated[
        float, typer.Option(min=0, max=1, help="Share of recordings that may fail.")
    ] = 0.1,
    engine: Annotated[str, typer.Option(help="local, or ray: a Ray cluster.")] = "local",
    commands: Annotated[
        bool, typer.Option("--commands", help="Let wav.scp run shell commands. Read it first.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would come to, and how long it takes.")
    ] = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Encode thousands of hours into a token corpus. Run again to go on, whatever ended it.

    Bad recordings go to quarantine.tsv, and the run goes on.

    \b
    Examples:
      audiotok corpus build recordings/ -o tokens
      audiotok corpus build s3://bucket/talks.jsonl -o tokens --dry-run
      audiotok corpus build data/train -o part-3 --shard 3/16
    """
    from audiotok.building import build as run
    from audiotok.building.forecast import forecast
    from audiotok.engines.base import Work

    work = Work(
        codec=codec,
        device=device,
        codebooks=codebooks,
        readers=readers or (1 if device == "cpu" else 8),
        group=group,
        commands=commands,
    )
    options: dict[str, Any] = {"kind": kind, "part": _part(part), "limit": shard_mb << 20}
    if dry_run:
        foreseen = forecast(listing, work, workers=jobs, **options)
        show.as_json(asdict(foreseen)) if as_json else show.facts(foreseen.words())
        return
    made = run(
        listing,
        out,
        work,
        engine=engine,
        workers=jobs,
        most_bad=most_bad,
        force=force,
        **options,
    )
    if as_json:
        show.as_json({**asdict(made), "speed": round(made.speed, 2)})
    else:
        show.facts(_words(made))


def _part(text: str) -> tuple[int, int]:
    i, _, n = text.partition("/")
    if not (i.isdigit() and n.isdigit() and int(i) < int(n)):
        raise show.UsageError(f"--shard {text}: write it as 0/16 to 15/16")
    return int(i), int(n)


def _words(made: Any) -> dict[str, str]:
    facts = {
        "corpus": made.out,
        "recordings": f"{made.recordings:,}",
        "audio": f"{made.seconds / 3600:,.3f} h",
        "frames": f"{made.frames:,}",
        "shards": f"{made.shards:,}, {made.bytes / 1e6:,.1f} MB in all",
    }
    if made.quarantined:
        facts["quarantined"] = f"{made.quarantined:,}, see {made.out}/quarantine.tsv"
    if made.run_recordings:
        facts["this run"] = f"{made.run_recordings:,} recordings in {made.took:,.1f} s"
        facts["speed"] = f"{made.speed:,.1f}x real time, processes {made.busy:.0%} busy"
    else:
        facts["this run"] = "nothing left to do"
    return facts
