"""The console on stderr, and text from outside (names of files, transcripts, errors) made fit to
be shown on it."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

said = Console(stderr=True)
JOINERS = "\u200c\u200d"  # between letters of Persian, Hindi ...; invisible and harmless
FORMULAS = "=+-@\uff1d\uff0b\uff0d\uff20"  # what begins a formula in a spreadsheet


def plain(text: str) -> str:
    """Return the text in one line, with nothing in it that a terminal obeys."""
    return "".join(c if c.isprintable() or c in JOINERS else repr(c)[1:-1] for c in text)


def one_line(message: object) -> str:
    """Return a message of any shape in one line."""
    return " ".join(str(message).split("\n")).strip()


def flat(value: object) -> str:
    """Return `plain` text whose white space, line breaks too, is single spaces."""
    return plain(" ".join(str(value).split()))


def cell(value: Any) -> Any:
    """Return what may stand in a cell of a table that people open in a spreadsheet.

    Text that would be taken for a formula gets an apostrophe before it, which spreadsheets do not
    show; numbers and None stay as they are.
    """
    if not isinstance(value, str):
        return value
    text = flat(value)
    return f"'{text}" if text[:1] and text[0] in FORMULAS else text


class UsageError(ValueError):
    """Options or arguments that do not go together: exit code 2."""


def labelled(label: str, style: str, message: str) -> Text:
    """Return the message after a coloured word; brackets in it are no markup."""
    return Text.assemble((label, style), " ", plain(message))


def error(message: object, *, console: Console = said) -> None:
    """Print an error in one line on stderr."""
    console.print(labelled("error", "red", one_line(message)), soft_wrap=True)
