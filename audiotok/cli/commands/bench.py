"""`audiotok bench`: scores of codecs, shipped or others, on a corpus."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audiotok.cli import console as show
from audiotok.cli.commands.base import Device, Jobs, Json, Threads, TorchOr, limit_threads

if TYPE_CHECKING:
    from audiotok.evaluation.results import Results

PANEL = "Evaluation"

Many = list[str] | None


def bench(
    recipe: Annotated[
        Path | None, typer.Argument(help="Recipe, recipes/bench_NAME.toml; options override it.")
    ] = None,
    codec: Annotated[
        Many,
        typer.Option(
            "--codec",
            help="Codecs to score: speech, speech@4, a checkpoint, opus:6, folder:DIR, "
            "my_module:codec (imported).",
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", help="Folder, manifest or archive of recordings.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Split of the manifest to use. Default: all.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Number of recordings, drawn at random. Default: all.")
    ] = None,
    metrics: Annotated[
        Many, typer.Option("--metrics", help="Metrics: pesq,stoi,wer ... (see `audiotok metrics`)")
    ] = None,
    tasks: Annotated[
        Many,
        typer.Option("--tasks", help="Tasks: codes,drift,information ... (see `audiotok metrics`)"),
    ] = None,
    model: Annotated[
        Many,
        typer.Option(
            "--model", help="Model of a metric, PART=NAME or PATH: recognizer=faster_whisper:base."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Output folder. Default: bench.")
    ] = None,
    settings: Annotated[
        Many, typer.Option("--set", help="Setting that overrides the recipe: section.key=value.")
    ] = None,
    commands: Annotated[
        bool, typer.Option("--commands", help="Allow shell commands in the listing. Read it first.")
    ] = False,
    jobs: Jobs = 1,
    threads: Threads = None,
    backend: TorchOr = "torch",
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Score codecs on a corpus; write tables and a page to listen to. Run again to resume.

    Options that take several values take them separated by commas, or repeated.

    \b
    Examples:
      audiotok bench --codec speech,opus:6 --data talks --metrics pesq,stoi -o out
      audiotok bench recipes/bench_speech.toml --data corpus.tsv -o out -j 2
      audiotok bench --codec folder:made --data talks --metrics wer,speaker -o out
    """
    from audiotok._platform.config import read_toml
    from audiotok.evaluation.bench import bench as work
    from audiotok.evaluation.bench.recipe import BenchRecipe

    codecs = _listed(codec)
    given: dict[str, Any] = {
        "codecs": codecs,
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
        if f"models.{part}" in given:
            raise show.UsageError(f"--model {part}: given twice")
        given[f"models.{part}"] = name
    chosen = [f"{key}={_toml(v)}" for key, v in given.items() if v is not None]
    known = read_toml(BenchRecipe, recipe, [*chosen, *(settings or [])])
    limit_threads(threads)
    finished = work(
        known,
        out or Path("bench"),
        jobs=jobs,
        device=device,
        backend=backend,
        imports=codecs or (),
        commands=commands,
    )
    if as_json:
        sides = {
            subject.name: {"side_information": subject.side_information}
            for subject in finished.results.subjects
            if subject.side_information
        }
        show.as_json([{**vars(m), **sides.get(m.subject, {})} for m in finished.results.means])
    else:
        show.bench(finished.results)
        show.line(f"report: {finished.page}")
    if finished.report.errors or _unscored(finished.results):
        raise typer.Exit(1)


def _unscored(results: Results) -> set[str]:
    """Return the subjects of which no metric could score a recording."""
    scored = {mean.subject for mean in results.means if mean.level is not None}
    return {mean.subject for mean in results.means} - scored


def _listed(values: list[str] | None) -> list[str] | None:
    """Return values that were separated by commas or repeated; existing paths are not split."""
    if values is None:
        return None
    return [part for value in values for part in _parted(value.split(",")) if part]


def _parted(pieces: list[str]) -> list[str]:
    """Return pieces between commas, joined again where they form a `NAME:PATH` that exists."""
    parts: list[str] = []
    at = 0
    while at < len(pieces):
        name, colon, first = pieces[at].partition(":")
        paths = (",".join([first, *pieces[at + 1 : end]]) for end in range(len(pieces), at, -1))
        path = next((p for p in paths if colon and Path(p.strip()).exists()), first)
        parts.append(f"{name}{colon}{path}".strip())
        at += 1 + path.count(",")
    return parts


def _toml(value: Any) -> str:
    """Return a text, a number or a list of texts as TOML has it, whose escapes are not JSON's."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
