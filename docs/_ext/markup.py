"""Pieces of Markdown that the generated parts are made of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def cell(text: str) -> str:
    """Return a text for a cell of a table: in one line, without bars that would end it."""
    return re.sub(r"\s+", " ", text).strip().replace("|", "\\|")


def code(text: str) -> str:
    """Return a text as code, for a cell of a table; of an empty text nothing."""
    return f"`{cell(text)}`" if text else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, left: int | None = None) -> str:
    """Return a table.

    Args:
        head: names of the columns.
        rows: cells, in Markdown.
        left: number of columns of text, which columns of numbers follow; None: all are text.
    """
    rule = [":--" if left is None or i < left else "--:" for i in range(len(head))]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, rule, *rows])


def prose(docstring: str) -> str:
    """Return a docstring as Markdown: examples are fenced, and indented text is as it stands.

    Args:
        docstring: docstring, cleaned of its indentation. Stretches that are indented by four spaces
            are preformatted in Markdown already; its examples begin with `>>>`.
    """
    paragraphs = []
    for paragraph in docstring.split("\n\n"):
        example = paragraph.startswith(">>> ")
        paragraphs.append(f"```pycon\n{paragraph}\n```" if example else paragraph)
    return "\n\n".join(paragraphs)
