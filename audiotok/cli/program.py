"""Program with its commands, each a file in `commands/` with a function of its name."""

from __future__ import annotations

import math
import os
import platform
import signal
import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from audiotok._platform.optional import version
from audiotok._platform.registry import shipped
from audiotok.cli import console as show


class Command(TyperCommand):
    """Command whose paths are of this machine, and whose numbers are finite.

    A URL would become a folder named `s3:`; what takes URLs has arguments of type str, not Path.
    """

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """Parse the arguments.

        Raises:
            UsageError: a path is a URL, or a number is not finite.
        """
        context = super().make_context(*arguments, **options)
        parameters = {each.name: each for each in self.params}
        for name, value in context.params.items():
            for each in value if isinstance(value, list | tuple) else [value]:
                own = parameters[name]
                if isinstance(each, float) and not math.isfinite(each) and each != own.default:
                    raise show.UsageError(f"{own.opts[0]} {each}: a finite number is needed")
                if isinstance(each, Path):
                    _refuse_url(each, context.command_path)
        return context


def _refuse_url(path: Path, command: str) -> None:
    from audiotok.corpus.location import flattened_url  # imports numpy, which --help need not

    if url := flattened_url(path):
        raise show.UsageError(
            f"{url}: `{command}` takes a path of this machine here, not a URL; copy between the two"
        )


EPILOG = "[dim]Exit codes: 0 all done, 1 something failed, 2 wrong usage, 130 interrupted.[/]"


def program(commands: Iterable[str] = ()) -> typer.Typer:
    """Return the program with some of its commands, whose files alone are imported; all if none."""
    app = typer.Typer(
        name="audiotok",
        help="Audio to discrete tokens and back.",
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
    )
    app.callback()(options)
    for name in commands or shipped("commands"):
        module = import_module(f"audiotok.cli.commands.{name}")
        command = getattr(module, name)
        if isinstance(command, typer.Typer):  # commands of its own
            for each in command.registered_commands:
                each.cls = Command
            app.add_typer(command, name=name, epilog=EPILOG, rich_help_panel=module.PANEL)
        else:
            app.command(cls=Command, epilog=EPILOG, rich_help_panel=module.PANEL)(command)
    return app


def _print_version(asked: bool) -> bool:
    if asked:
        under = f"{version('torch')}, Python {platform.python_version()}"
        show.line(f"{version('audiotok')} ({under})")
        raise typer.Exit
    return asked


def options(
    _: Annotated[
        bool,
        typer.Option(
            "--version",
            "-V",
            help="Show the versions of audiotok, torch and Python, and exit.",
            is_eager=True,
            callback=_print_version,
        ),
    ] = False,
) -> None:
    """Handle the options that stand before a command; each does its work and exits."""


def run() -> None:
    """Run the command that the process was started with; errors are one line on stderr."""
    show.set_up()
    # To be told to end is to be interrupted: nothing is left half-written then either.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # The name of a command in Python has an underscore for the dash that is typed.
    asked = {word.replace("-", "_") for word in sys.argv[1:2]}
    try:
        code = show.outcome(program(asked & {*shipped("commands")}))
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read this has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    if code == 130:
        show.error("interrupted; nothing is half-written; run it again: what is finished is kept")
    sys.exit(code)
