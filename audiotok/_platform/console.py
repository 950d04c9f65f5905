"""The console on stderr, and sanitizing of outside text before it is printed.

Names of files, transcripts and errors may hold line breaks, escape sequences or formulas.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.text import Text

from audiotok._platform.errors import Error

stderr_console = Console(stderr=True)
JOINERS = "\u200c\u200d"  # zero-width (non-)joiners, which Persian, Hindi ... need; harmless
FORMULAS = "=+-@\uff1d\uff0b\uff0d\uff20"  # characters that begin a formula in a spreadsheet


def plain(text: str) -> str:
    """Return the text with every unprintable character escaped, line breaks included."""
    return "".join(c if c.isprintable() or c in JOINERS else repr(c)[1:-1] for c in text)


def one_line(message: object) -> str:
    """Return a message in one line, its line breaks replaced by spaces."""
    return " ".join(str(message).split("\n")).strip()


def flat(value: object) -> str:
    """Return `plain` text in which every run of white space, line breaks included, is one space."""
    return plain(" ".join(str(value).split()))


def cell(value: Any) -> Any:
    """Return a value that is safe in a cell of a table that people open in a spreadsheet.

    Text that would be taken for a formula gets an apostrophe before it, which spreadsheets do not
    show; numbers and None stay as they are.
    """
    if not isinstance(value, str):
        return value
    text = flat(value)
    return f"'{text}" if text[:1] and text[0] in FORMULAS else text


class UsageError(Error, ValueError):
    """Error of options or arguments that do not go together; the command exits with code 2."""


def labelled(label: str, style: str, message: str) -> Text:
    """Return a message after a label in colour; brackets in it are not read as markup.

    Args:
        label: the word before the message, as "error".
        style: the label's colour, as rich calls it.
        message: the text.
    """
    return Text.assemble((label, style), " ", plain(message))


reword: Callable[[str], str] = str
"""Wording of errors that are printed; the command line names its options for arguments."""


def error(message: object, *, console: Console = stderr_console) -> None:
    """Print an error on one line of stderr, or of another console."""
    console.print(labelled("error", "red", reword(one_line(message))), soft_wrap=True)
