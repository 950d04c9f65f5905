"""The layouts of published language models, from the classes that encode for them."""

from __future__ import annotations

import numpy as np
from markup import cell, code, table

from audiotok._platform.registry import find, shipped, stored
from audiotok.lm.dialects.base import Dialect, RowsDialect, SerialDialect


def dialects(_: str = "") -> str:
    """Return two tables with a row for each layout: order and ids; text, and the public source."""
    known: list[Dialect] = [find("dialects", name)() for name in shipped("dialects")]
    order = ["layout", "language model", "codec", "codes a frame", "order", "ids of codes", "marks"]
    source = ["layout", "one frame as text", "where that is published"]
    return "\n\n".join((table(order, map(_order, known)), table(source, map(_source, known))))


def _order(layout: Dialect) -> list[str]:
    """Return the cells of the order and the ids of a layout."""
    codecs = (
        code(name) if name in stored("codecs") else f"{name} (not here)" for name in layout.codecs
    )
    books = f"{len(layout.entries)} x {layout.entries[0]:,}"
    if isinstance(layout, SerialDialect):
        letters = "abcdefgh"[: len(layout.entries)]
        positions = layout.positions or range(len(layout.entries))
        row = "one row: " + " ".join(letters[book] for book in positions)
        first = layout.offset + layout.first
        ids = f"{first:,} to {first + sum(layout.entries) - 1:,}"
        marks = f"begin {layout.special('begin'):,}, end {layout.special('end'):,}"
    else:
        assert isinstance(layout, RowsDialect)
        row = "rows; delays " + _run(layout.delays) if any(layout.delays) else "rows, no delays"
        ids, marks = "the codes", _marks(layout)
    return [code(layout.dialect), cell(layout.lm), ", ".join(codecs), books, row, ids, marks]


def _run(delays: tuple[int, ...]) -> str:
    """Return delays in few words."""
    rest = set(delays[1:])
    if len(rest) == 1:
        return f"0, then {rest.pop()}"
    return ", ".join(map(str, delays))


def _marks(layout: RowsDialect) -> str:
    """Return the ids of a layout in rows that are no codes."""
    marks = {"begin": layout.begin, "end": layout.end}
    words = [f"{name} {_first(value)}" for name, value in marks.items() if value is not None]
    if any(layout.delays):
        words += [f"before {layout.before}", f"after {layout.after}"]
    return ", ".join(words)


def _first(value: int | tuple[int, ...]) -> str:
    """Return the id of a mark, which may stand in the first row only."""
    return str(value) if isinstance(value, int) else f"{value[0]} in the first row"


def _source(layout: Dialect) -> list[str]:
    """Return the cells of the text form of a layout and its source."""
    codes = np.arange(1, 1 + len(layout.entries))[:, None]
    text = code(layout.text(codes, marks=False)) if layout.written else "none: ids only"
    return [code(layout.dialect), text, cell(layout.facts)]
