"""Parquet files with a column of encoded audio, as Hugging Face writes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from audiotok.listings.base import ALL, Item, Listing, Split, by_file, every, files_of
from audiotok.missing import needed
from audiotok.place import ListingError, Place, is_url, reading

ROWS = 16  # read at a time
NAMES = ("audio", "wav", "flac", "mp3", "bytes", "file")  # what the column is called


class Parquet(Listing):
    """Rows of a file, a folder or a glob; the column of audio holds bytes, or `{bytes, path}`.

    The id is the column `id` where there is one, else the audio's name, else file and row.
    """

    about = "Parquet with audio bytes: a file, a folder, a glob, or part-{000..099}.parquet"
    costly = True

    @classmethod
    def takes(cls, path: str) -> bool:
        """See `Listing.takes`."""
        if path.lower().endswith(".parquet"):
            return True
        return not is_url(path) and Path(path).is_dir() and any(Path(path).glob("*.parquet"))

    def items(self, path: str, part: Split = ALL) -> Iterator[Item]:
        """See `Listing.items`."""
        files, rest = by_file(files_of(path, (".parquet",)), part)
        yield from every((item for file in files for item in _rows(file)), rest)


def _rows(path: str) -> Iterator[Item]:
    arrow: Any = needed("pyarrow", extra="corpus")
    parquet: Any = needed("pyarrow.parquet", "pyarrow", extra="corpus")
    try:
        with reading(path) as file:
            table = parquet.ParquetFile(file)
            column = _column(arrow, table.schema_arrow, path)
            number = 0
            for batch in table.iter_batches(batch_size=ROWS):
                for row in batch.to_pylist():
                    yield item_of(row, column, f"{Path(path).name}#{number}")
                    number += 1
    except (arrow.ArrowException, OSError) as error:
        raise ListingError(f"{path}: damaged, or not Parquet ({error}); fetch it anew") from None


def _column(arrow: Any, schema: Any, path: str) -> str:
    def holds(kind: Any) -> bool:
        if arrow.types.is_struct(kind):
            return kind.get_field_index("bytes") >= 0
        return arrow.types.is_binary(kind) or arrow.types.is_large_binary(kind)

    found = [f.name for f in schema if holds(f.type)]
    if not found:
        raise ListingError(f"{path}: no column of audio bytes, only {', '.join(schema.names)}")
    return next((name for name in NAMES if name in found), found[0])


def item_of(row: dict[str, Any], column: str, otherwise: str) -> Item:
    """The item of a row; `otherwise` names it if nothing in it does."""
    audio = row.pop(column)
    audio = audio if isinstance(audio, dict) else {"bytes": audio}
    data, path = audio.get("bytes"), audio.get("path") or ""
    name = str(row.pop("id", None) or path or otherwise)
    rest = {k: v for k, v in row.items() if v is not None and not isinstance(v, (bytes, dict))}
    length = rest.get("seconds", rest.get("duration"))
    seconds = float(length) if isinstance(length, (int, float)) else None
    if data is None and path:  # only its path is kept
        return Item(name, Place(path, path), rest, seconds)
    return Item(name, Place(path or name, data=data or b""), rest, seconds)
