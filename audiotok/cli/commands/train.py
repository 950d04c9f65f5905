"""`audiotok train`: a codec from a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audiotok.cli import console as show
from audiotok.cli.commands.base import Device

PANEL = "Training"


def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe, recipes/NAME.toml.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="A folder; default: runs/NAME.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="section.key=value, over the recipe.")
    ] = None,
    device: Device = "cpu",
    minutes: Annotated[float, typer.Option(help="Stop after so many; 0: no limit.")] = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what it would cost, from a few steps.")
    ] = False,
) -> None:
    """Train a codec from a recipe. Run again to go on where it stopped.

    \b
    Examples:
      audiotok train recipes/speech.toml --dry-run
      audiotok train recipes/speech.toml -o runs/speech --set data.batch=32
      accelerate launch --module audiotok train recipes/speech.toml --device cuda
    """
    from audiotok.training.recipe import read_recipe

    known = read_recipe(recipe, settings)
    if dry_run:
        from audiotok.training.estimate import estimate

        show.facts(show.estimated(estimate(known, device=device)))
        return
    from audiotok.training.loop import train as work

    weights = work(known, out or Path("runs") / recipe.stem, device=device, minutes=minutes)
    show.line(f"weights: {weights}")
