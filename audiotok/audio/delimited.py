"""Tables as delimited text: TSV without quoting, CSV quoted as in RFC 4180.

A field of a TSV file is the text between two tabs, quotation marks included, as in databases,
corpora of speech and the `cut` program. Quoting there would join rows wherever a text holds a
single quotation mark.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterable, Iterator

from audiotok._platform.errors import InputError

log = logging.getLogger("audiotok")


def read_rows(
    lines: Iterable[str], name: str, *, comma: bool = False
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the number of each row's first line, and the row as column -> field.

    Fields missing at the end of a row are empty. Blank lines and columns without a name are left
    out.

    Args:
        lines: all lines of the text, the header first.
        name: the file; messages begin with it.
        comma: whether commas separate the fields (CSV); else tabs do (TSV).

    Raises:
        ValueError: the header names a column twice, a row has more fields than the header, or a
            quotation mark of a CSV file is not closed. The message names the line.
    """
    header: list[str] | None = None
    warned = False
    for number, fields in _commas(lines, name) if comma else _tabs(lines):
        if header is None:
            header = [field.strip() for field in fields]
            twice = next((h for i, h in enumerate(header) if h and h in header[:i]), None)
            if twice is not None:
                one_line = " ".join(twice.split())
                raise InputError(f"{name}, line {number}: two columns are called `{one_line}`")
            continue
        if len(fields) > len(header):
            raise InputError(f"{name}, line {number}: more fields than the header's {len(header)}")
        if not (comma or warned) and any(map(_quoted, fields)):
            warned = True
            log.warning(
                "%s, line %d: a field is quoted as in CSV; between tabs its marks are text and are "
                "kept (name the file .csv and part it by commas, or write it without quoting)",
                name,
                number,
            )
        fields += [""] * (len(header) - len(fields))
        yield number, {column: f for column, f in zip(header, fields, strict=True) if column}


def header_of(lines: Iterable[str], name: str, *, comma: bool = False) -> list[str]:
    """Return the names of a table's columns; an empty list if there is no line.

    Args:
        lines: all lines of the text, the header first.
        name: the file; messages begin with it.
        comma: whether commas separate the fields (CSV); else tabs do (TSV).

    Raises:
        ValueError: the first line is not CSV.
    """
    _, fields = next(_commas(lines, name) if comma else _tabs(lines), (0, []))
    return [field.strip() for field in fields]


def _tabs(lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the fields of each line that is not blank."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield number, line.rstrip("\r\n").split("\t")


def _commas(lines: Iterable[str], name: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the fields of each CSV row that is not blank, and the number of its first line."""
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
            raise InputError(f"{name}, line {first}: {why} ({rule})") from None
        if fields is None:
            return
        if any(field.strip() for field in fields):
            yield first, fields


def _quoted(field: str) -> bool:
    """Return whether a field looks quoted by a CSV writer: marks around it, and doubled within."""
    if len(field) < 4 or field[0] != '"' or field[-1] != '"':
        return False
    inner = field[1:-1]
    return '""' in inner and '"' not in inner.replace('""', "")
