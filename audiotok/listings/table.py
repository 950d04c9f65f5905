"""A manifest: TSV with a header line, or JSON a line, as audiotok, NeMo and others write them."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from audiotok.listings.base import ALL, Item, Listing, Split, every, joined, parent, text_lines
from audiotok.place import ListingError, Place

PATHS = ("path", "audio_filepath", "audio_path", "audio", "wav")  # what columns of files are called
_OURS = ("id", "start", "end", "offset", "duration", "channel")  # and what else is not a remark
_JSON = (".jsonl", ".json", ".ndjson", ".jsonl.gz")
_TABLE = (".tsv", ".csv", ".tsv.gz", ".csv.gz")


class Table(Listing):
    """A line a recording, with `path` (NeMo: `audio_filepath`), absolute or from the manifest.

    `id` names it (its path if there is none), `start` and `end`, or `offset` and `duration`, in
    seconds cut a stretch of the file; all else is carried through.
    """

    about = "a manifest: .tsv or .csv with a header, .jsonl with an object a line (NeMo's too)"

    @classmethod
    def takes(cls, path: str) -> bool:
        """See `Listing.takes`."""
        return path.lower().endswith((*_JSON, *_TABLE))

    def items(self, path: str, part: Split = ALL) -> Iterator[Item]:
        """See `Listing.items`."""
        rows = _objects(path) if path.lower().endswith(_JSON) else _rows(path)
        base = parent(path)
        for number, row in every(rows, part):
            try:
                yield _item(row, base)
            except (ValueError, TypeError) as error:
                raise ListingError(f"{path}, line {number}: {error}") from None


def _item(row: dict[str, Any], base: str) -> Item:
    column = next((name for name in PATHS if row.get(name)), None)
    if column is None:
        raise ValueError(f"no path; call the column `path`, there is only {', '.join(row)}")
    name = str(row[column])
    start = _seconds(row, "start", _seconds(row, "offset", 0.0))
    duration, end = _seconds(row, "duration", None), _seconds(row, "end", None)
    cut = start or 0.0
    if end is None and duration is not None and (cut or "offset" in row):
        end = cut + duration
    stretch = "" if not cut and end is None else f"#{cut:g}-{'' if end is None else f'{end:g}'}"
    whole = duration if duration is not None else _seconds(row, "seconds", None)
    channel = row.get("channel")
    place = Place(
        name + stretch,
        joined(base, name),
        start=cut,
        end=end,
        channel=None if channel in (None, "") else int(channel),
    )
    rest = {
        key: value
        for key, value in row.items()
        if key not in (column, *_OURS) and value not in ("", None)
    }
    return Item(
        str(row.get("id") or name + stretch),
        place,
        rest,
        end - cut if end is not None else whole,
    )


def _seconds(row: dict[str, Any], name: str, default: float | None) -> float | None:
    value = row.get(name)
    return default if value in (None, "") else float(value)  # pyright: ignore[reportArgumentType]


def _objects(path: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in text_lines(path):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ListingError(f"{path}, line {number}: not JSON ({error})") from None
        if not isinstance(row, dict):
            raise ListingError(f"{path}, line {number}: not an object but {line:.40}")
        yield number, row


def _rows(path: str) -> Iterator[tuple[int, dict[str, Any]]]:
    comma = "," if ".csv" in Path(path).name.lower() else "\t"
    lines = (line + "\n" for _, line in text_lines(path))
    rows = csv.DictReader(lines, delimiter=comma, restval="", strict=True)
    try:
        for row in rows:
            if None in row:
                fields = f"more fields than the header's {len(row) - 1}"
                raise ListingError(f"{path}, line {rows.line_num}: {fields}")
            yield rows.line_num, row
    except csv.Error as error:
        where = f"{path}, line {rows.line_num}"
        raise ListingError(f'{where}: {error} (a field that begins with " ends with one)') from None
