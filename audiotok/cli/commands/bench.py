"""`audiotok bench`: scores of codecs, ours and others, on a corpus."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from audiotok.cli import console as show
from audiotok.cli.commands.base import Device, Jobs, Json

PANEL = "Evaluation"

Many = list[str] | None


def bench(
    recipe: Annotated[
        Path | None, typer.Argument(help="A recipe, recipes/bench_NAME.toml; options go over it.")
    ] = None,
    codec: Annotated[
        Many, typer.Option("--codec", help="speech, speech@4, a checkpoint, opus:6, folder:DIR.")
    ] = None,
    data: Annotated[str | None, typer.Option("--data", help="A folder or manifest.")] = None,
    split: Annotated[str | None, typer.Option(help="Only this split of the manifest.")] = None,
    limit: Annotated[int | None, typer.Option(help="So many recordings, drawn at random.")] = None,
    metrics: Annotated[
        Many, typer.Option("--metrics", help="pesq,stoi,wer ... (see `audiotok metrics`)")
    ] = None,
    tasks: Annotated[Many, typer.Option("--tasks", help="codes,drift,information ...")] = None,
    model: Annotated[
        Many, typer.Option("--model", help="PART=NAME or PATH: recognizer=faster_whisper:base.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A folder.")] = None,
    settings: Annotated[
        Many, typer.Option("--set", help="section.key=value, over the recipe.")
    ] = None,
    jobs: Jobs = 1,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Score codecs on a corpus, and write tables and a page to listen to. Run again to go on.

    Options that take several values take them with commas, or again and again.

    \b
    Examples:
      audiotok bench --codec speech,opus:6 --data talks --metrics pesq,stoi -o out
      audiotok bench recipes/bench_speech.toml --data corpus.tsv -o out -j 2
      audiotok bench --codec folder:made --data talks --metrics wer,speaker -o out
    """
    from audiotok._platform.config import read_toml
    from audiotok.evaluation.bench import bench as work
    from audiotok.evaluation.bench.recipe import BenchRecipe

    given: dict[str, Any] = {
        "codecs": _listed(codec),
        "metrics": _listed(metrics),
        "tasks": _listed(tasks),
        "data.manifest": data,
        "data.split": split,
        "data.limit": limit,
    }
    if recipe is None and data is None:
        raise show.UsageError("say what to score on: --data FOLDER or MANIFEST, or a recipe")
    for pair in model or []:
        part, equals, name = pair.partition("=")
        if not equals:
            raise show.UsageError(f"--model {pair}: write it as PART=NAME, recognizer=whisper:base")
        given[f"models.{part}"] = name
    chosen = [f"{key}={json.dumps(v)}" for key, v in given.items() if v is not None]
    known = read_toml(BenchRecipe, recipe, [*chosen, *(settings or [])])
    done = work(known, out or Path("bench"), jobs=jobs, device=device)
    if as_json:
        show.as_json([vars(mean) for mean in done.results.means])
    else:
        show.bench(done.results)
        show.line(f"report: {done.page}")
    if done.report.errors:
        raise typer.Exit(1)


def _listed(values: list[str] | None) -> list[str] | None:
    """Values given with commas or one by one; a path with commas in it that exists is one."""
    if values is None:
        return None
    return [part for value in values for part in _parted(value.split(",")) if part]


def _parted(pieces: list[str]) -> list[str]:
    """Pieces between commas, those joined again that make a path, `NAME:PATH`, that exists."""
    parts: list[str] = []
    at = 0
    while at < len(pieces):
        name, colon, first = pieces[at].partition(":")
        paths = (",".join([first, *pieces[at + 1 : end]]) for end in range(len(pieces), at, -1))
        path = next((p for p in paths if colon and Path(p.strip()).exists()), first)
        parts.append(f"{name}{colon}{path}".strip())
        at += 1 + path.count(",")
    return parts
