"""Program with its commands, each a file in `commands/` with a function of its name."""

from __future__ import annotations

import os
import platform
import signal
import sys
from collections.abc import Iterable
from importlib import import_module
from typing import Annotated

import typer

from audiotok._platform.optional import version
from audiotok._platform.registry import shipped
from audiotok.cli import console as show

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
            app.add_typer(command, name=name, epilog=EPILOG, rich_help_panel=module.PANEL)
        else:
            app.command(epilog=EPILOG, rich_help_panel=module.PANEL)(command)
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
        show.error("interrupted; nothing is half-written, run it again to go on")
    sys.exit(code)
