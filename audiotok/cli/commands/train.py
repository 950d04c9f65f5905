"""`audiotok train`: training of a codec from a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audiotok.cli import console as show
from audiotok.cli.commands.base import Device, Threads, limit_threads

PANEL = "Training"


def train(
    recipe: Annotated[Path, typer.Argument(help="Recipe, recipes/NAME.toml.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Output folder. Default: runs/NAME.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Setting that overrides the recipe: section.key=value."),
    ] = None,
    device: Device = "cpu",
    threads: Threads = None,
    minutes: Annotated[float, typer.Option(min=0, help="Time limit in minutes; 0: no limit.")] = 0,
    commands: Annotated[
        bool, typer.Option("--commands", help="Allow shell commands in the listing. Read it first.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only estimate time and memory, from a few steps.")
    ] = False,
) -> None:
    """Train a codec from a recipe. Run again to resume.

    \b
    Examples:
      audiotok train recipes/speech.toml --dry-run
      audiotok train recipes/speech.toml -o runs/speech --set data.batch=32
      accelerate launch --module audiotok train recipes/speech.toml --device cuda
    """
    from audiotok.training.recipe import read_recipe

    limit_threads(threads)
    known = read_recipe(recipe, settings)
    if dry_run:
        from audiotok.training.estimate import estimate

        show.facts(show.estimated(estimate(known, device=device)))
        return
    from audiotok.training.loop import train as work

    folder = out or Path("runs") / recipe.stem
    weights = work(known, folder, device=device, minutes=minutes, commands=commands)
    show.line(f"weights: {weights}")
