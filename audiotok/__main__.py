"""The command line: `audiotok COMMAND`, also `python -m audiotok`. Each command is a file in
`commands/` with a function of its name."""

from __future__ import annotations

import os
import platform
import signal
import sys
from importlib import import_module
from typing import Annotated

import typer

import audiotok
from audiotok._platform.optional import version
from audiotok._platform.registry import shipped
from audiotok.cli import console as show

EPILOG = "[dim]Exit codes: 0 all done, 1 something failed, 2 wrong usage, 130 interrupted.[/]"

app = typer.Typer(
    name="audiotok",
    help="Audio to discrete tokens and back.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
for _name in shipped("commands"):
    _module = import_module(f"audiotok.cli.commands.{_name}")
    _command = getattr(_module, _name)
    if isinstance(_command, typer.Typer):  # commands of its own
        app.add_typer(_command, name=_name, epilog=EPILOG, rich_help_panel=_module.PANEL)
    else:
        app.command(epilog=EPILOG, rich_help_panel=_module.PANEL)(_command)


def _print_version(asked: bool) -> bool:
    if asked:
        under = f"{version('torch')}, Python {platform.python_version()}"
        show.line(f"audiotok {audiotok.__version__} ({under})")
        raise typer.Exit
    return asked


@app.callback()
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


def main() -> None:
    """Run the command line; errors are one line on stderr."""
    show.set_up()
    # To be told to end is to be interrupted: nothing is left half-written then either.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = show.outcome(app)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read this has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    if code == 130:
        show.error("interrupted; nothing is half-written, run it again to go on")
    sys.exit(code)


if __name__ == "__main__":
    main()
