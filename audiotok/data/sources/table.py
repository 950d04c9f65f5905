"""Manifests as a source: TSV or CSV with a header line, or one JSON object a line."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from audiotok._platform.errors import InputError
from audiotok._platform.jsonfile import parse
from audiotok.audio.columns import CLIPS, in_folder, is_clip, path_of, with_our_names
from audiotok.audio.delimited import read_rows
from audiotok.data.locator import AudioLocator, ListingError, is_url
from audiotok.data.recording import Recording, as_text
from audiotok.data.sources.base import (
    ALL,
    Listing,
    Split,
    all_lines,
    every,
    joined,
    parent,
    text_lines,
)

# Fields that are not carried through: they are the recording itself.
OWN = ("id", "start", "end", "offset", "duration", "channel")
_JSON = (".jsonl", ".json", ".ndjson", ".jsonl.gz")
_TABLE = (".tsv", ".csv", ".tsv.gz", ".csv.gz")


class Table(Listing):
    """A manifest with one recording a line, in the forms that audiotok, NeMo and others write.

    `path` (NeMo: `audio_filepath`) is absolute or relative to the manifest. `id` names the
    recording (its path if there is none), `start` and `end`, or `offset` and `duration`, in seconds
    cut a part out of the file, `channel` one channel; all other fields are carried through. Common
    Voice's tables and the metadata of Hugging Face's audiofolder are read as they are.
    """

    description = (
        "a manifest: .tsv or .csv with a header, .jsonl with an object a line (NeMo's too)"
    )
    chooses = True

    @classmethod
    def takes(cls, path: str) -> bool:
        """See `Listing.takes`."""
        return path.lower().endswith((*_JSON, *_TABLE))

    def items(self, path: str, part: Split = ALL) -> Iterator[Recording]:
        """See `Listing.items`."""
        if path.lower().endswith(_JSON):
            rows = _objects(path)
        else:
            comma = path.lower().endswith((".csv", ".csv.gz"))  # any other is TSV
            rows = read_rows(all_lines(path), path, comma=comma)
        base = parent(path)
        try:
            for number, row in every(rows, part):
                try:
                    item = _item(row, base, self.audio)
                except ValueError as error:
                    raise ListingError(f"{path}, line {number}: {error}") from None
                yield item
        except ListingError:
            raise
        except ValueError as error:  # a line that cannot be parsed; the message has its number
            raise ListingError(str(error)) from None


def _item(row: dict[str, Any], base: str, audio: str) -> Recording:
    """Return the item of a row."""
    column, name = path_of(row, audio)
    start = _seconds(row, "start", "offset")
    duration, end = _seconds(row, "duration"), _seconds(row, "end")
    if end is None and duration is not None and start is not None:
        end = start + duration
    cut = start or 0.0
    if end is not None and end <= cut:
        raise InputError(f"cannot cut from {cut:g} s to {end:g} s")
    stretch = "" if not cut and end is None else f"#{cut:g}-{'' if end is None else f'{end:g}'}"
    whole = duration if duration is not None else _seconds(row, "seconds")
    if is_url(base):
        inner = f"{CLIPS}/{name}" if is_clip(row, name) else name
    else:
        inner = in_folder(Path(base), row, name)
    locator = AudioLocator(
        name + stretch,
        joined(base, inner),
        start=cut,
        end=end,
        channel=_channel(row.get("channel")),
    )
    rest = {
        key: value
        for key, value in with_our_names(row).items()
        if key not in (column, *OWN) and value not in ("", None)
    }
    others = {key: value for key, value in row.items() if key not in (column, "path")}
    cells = {k: as_text(v) for k, v in with_our_names(others).items() if v is not None}
    row_id, rate = row.get("id"), str(row.get("rate"))
    return Recording(
        name + stretch if row_id in ("", None) else str(row_id),
        locator,
        rest,
        end - cut if end is not None else whole,
        int(rate) if rate.isascii() and rate.isdigit() and len(rate) < 10 else None,
        {"path": inner, **cells},
    )


def _seconds(row: dict[str, Any], *names: str) -> float | None:
    """Return the first of these fields that exists, in seconds, or None."""
    for name in names:
        value = row.get(name)
        if value not in (None, ""):
            try:
                seconds = float(value)  # pyright: ignore[reportArgumentType]
            except (TypeError, ValueError, OverflowError):
                seconds = math.nan
            if isinstance(value, bool) or not 0 <= seconds < math.inf:
                raise InputError(f"`{name}` is {value!r:.40}, not a number of seconds")
            return seconds
    return None


def _channel(value: Any) -> int | None:
    """Return a value as the index of a channel, from 0 on, or None if it is empty."""
    if value in (None, ""):
        return None
    text = str(value).strip()
    if not (text.isascii() and text.isdigit() and len(text) < 6):
        raise InputError(f"`channel` is {value!r:.40}, not a number from 0 on")
    return int(text)


def _objects(path: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the numbered rows of a JSONL file."""
    for number, line in text_lines(path):
        where = f"{path}, line {number}"
        row = parse(line, where)
        if not isinstance(row, dict):
            raise InputError(f"{where}: not an object but {line:.40}")
        yield number, row
