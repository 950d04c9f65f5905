"""Tables as delimited text: tabs know no quoting, commas are quoted as RFC 4180 has it.

A field of a TSV file is what stands between two tabs, quotation marks and all, as databases,
corpora of speech and `cut` have it. Quoting there would join rows wherever a text holds a single
quotation mark.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterable, Iterator

log = logging.getLogger("audiotok")


def read_rows(
    lines: Iterable[str], name: str, *, comma: bool = False
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield each row below the header as column -> field, with the number of its first line.

    Fields that a row lacks at its end are empty. Blank lines and columns without a name are left
    out.

    Args:
        lines: all lines of the text, the header first.
        name: the file, with which messages begin.
        comma: whether commas part the fields (CSV); else tabs do (TSV).

    Raises:
        ValueError: the header names a column twice, a row has more fields than the header, or a
            quotation mark of a CSV file is not closed. The message names the line.
    """
    header: list[str] | None = None
    doubted = False
    for number, fields in _commas(lines, name) if comma else _tabs(lines):
        if header is None:
            header = [field.strip() for field in fields]
            twice = next((h for i, h in enumerate(header) if h and h in header[:i]), None)
            if twice is not None:
                one_line = " ".join(twice.split())
                raise ValueError(f"{name}, line {number}: two columns are called `{one_line}`")
            continue
        if len(fields) > len(header):
            raise ValueError(f"{name}, line {number}: more fields than the header's {len(header)}")
        if not (comma or doubted) and any(map(_quoted, fields)):
            doubted = True
            log.warning(
                "%s, line %d: a field is quoted as in CSV; between tabs its marks are text and are "
                "kept (name the file .csv and part it by commas, or write it without quoting)",
                name,
                number,
            )
        fields += [""] * (len(header) - len(fields))
        yield number, {column: f for column, f in zip(header, fields, strict=True) if column}


def header_of(lines: Iterable[str], name: str, *, comma: bool = False) -> list[str]:
    """Return the names of a table's columns; none if there is no line.

    Raises:
        ValueError: the first line is not CSV.
    """
    _, fields = next(_commas(lines, name) if comma else _tabs(lines), (0, []))
    return [field.strip() for field in fields]


def _tabs(lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield number, line.rstrip("\r\n").split("\t")


def _commas(lines: Iterable[str], name: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(iter(lines), strict=True)
    while True:
        first = reader.line_num + 1
        try:
            fields = next(reader, None)
        except csv.Error as error:
            why = str(error)
            if "unexpected end" in why or "field limit" in why:
                why = "a quotation mark opens a field and is never closed"
            rule = 'a field that begins with " ends with one, and a " inside is doubled'
            raise ValueError(f"{name}, line {first}: {why} ({rule})") from None
        if fields is None:
            return
        if any(field.strip() for field in fields):
            yield first, fields


def _quoted(field: str) -> bool:
    """Return whether a field has the marks of a CSV writer: around it, and doubled within."""
    if len(field) < 4 or field[0] != '"' or field[-1] != '"':
        return False
    inner = field[1:-1]
    return '""' in inner and '"' not in inner.replace('""', "")
