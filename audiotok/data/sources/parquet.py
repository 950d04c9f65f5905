"""Parquet files with a column of encoded audio, as Hugging Face writes them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from audiotok._platform.jsonfile import parse
from audiotok._platform.optional import optional_import
from audiotok.audio.columns import with_our_names
from audiotok.data.locator import AudioLocator, ListingError, listing_error, reading
from audiotok.data.recording import Recording
from audiotok.data.sources.base import Containers, files_of, length_of, names_in

ROWS = 16  # rows read at a time
_PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff")
_MARKS = (
    b"\x89PNG",
    b"\xff\xd8\xff",
    b"GIF8",
    b"BM",
    b"II*\0",
    b"MM\0*",
)  # first bytes of image files


class Parquet(Containers):
    """Rows of a file, a folder or a glob; the column of audio holds bytes, or `{bytes, path}`.

    The id is the column `id` if it exists, else the audio's name if no two rows of a file have the
    same, else file and row. `audio` names the column where several hold bytes.
    """

    description = "Parquet with audio bytes: a file, a folder, a glob, or part-{000..099}.parquet"
    chooses = True

    @classmethod
    def takes(cls, path: str) -> bool:
        """See `Listing.takes`."""
        if path.lower().endswith(".parquet"):
            return True
        return any(name.endswith(".parquet") for name in names_in(path))

    def containers(self, path: str) -> list[str]:
        """See `Containers.containers`."""
        return files_of(path, (".parquet",))

    def items_of(self, path: str, file: str) -> Iterator[Recording]:
        """See `Listing.items_of`."""
        return _rows(file, self.audio)


def _rows(path: str, audio: str) -> Iterator[Recording]:
    """Yield the items of a file."""
    arrow: Any = optional_import("pyarrow", extra="corpus")
    parquet: Any = optional_import("pyarrow.parquet", "pyarrow", extra="corpus")
    try:
        with reading(path) as file:
            table = parquet.ParquetFile(file)
            column = _column(arrow, table, path, audio)
            named = _names_differ(table, column)
            number = 0
            for batch in table.iter_batches(batch_size=ROWS):
                for row in batch.to_pylist():
                    yield item_of(row, column, f"{Path(path).name}#{number}", named=named)
                    number += 1
    except ListingError:
        raise
    except (arrow.ArrowException, OSError, ValueError, OverflowError) as error:
        why = " ".join(str(error).split())[:300]
        why = f"{path}: damaged, or not Parquet ({why}); fetch it anew"
        raise listing_error(path, error, why) from None


def _column(arrow: Any, table: Any, path: str, audio: str) -> str:
    """Return the column of audio: one declared by Hugging Face, or one of bytes but not images."""
    schema = table.schema_arrow
    kinds = {field.name: field.type for field in schema}
    if len(kinds) < len(schema.names):
        raise ListingError(f"{path}: two columns have the same name; rename one")
    candidates = [name for name, kind in kinds.items() if _holds_bytes(arrow, kind)]
    declared = _declared(schema)
    likely = [name for name in candidates if declared.get(name) == "Audio"]
    if not likely and not audio:
        others = [name for name in candidates if declared.get(name) != "Image"]
        first = next(table.iter_batches(batch_size=ROWS, columns=others), None) if others else None
        values = first.to_pydict() if first is not None else {}
        likely = [name for name in others if not any(map(is_picture, values.get(name, ())))]
    types = {name: str(kind) for name, kind in kinds.items()}
    return choose(likely, candidates, types, path, audio)


def _holds_bytes(arrow: Any, kind: Any) -> bool:
    """Return whether a column of this type holds bytes, or a struct with bytes."""
    if arrow.types.is_struct(kind):
        at = kind.get_field_index("bytes")
        return at >= 0 and _holds_bytes(arrow, kind.field(at).type)
    return arrow.types.is_binary(kind) or arrow.types.is_large_binary(kind)


def _declared(schema: Any) -> dict[str, str]:
    """Return the types of columns that Hugging Face's metadata declares: "Audio", "Image" ..."""
    note = (schema.metadata or {}).get(b"huggingface", b"{}")
    try:
        features = parse(note, "")["info"]["features"]
        return {name: str(feature.get("_type")) for name, feature in features.items()}
    except (ValueError, KeyError, TypeError, AttributeError):  # not Hugging Face's metadata
        return {}


def choose(
    likely: list[str], candidates: Iterable[str], kinds: Mapping[str, str], path: str, audio: str
) -> str:
    """Return the name of the column of audio.

    Args:
        likely: columns that may be the audio.
        candidates: columns that the user may choose.
        kinds: type of each column.
        path: path of the listing, for messages.
        audio: the column that the user chose, or "".

    Raises:
        ListingError: there is none, or several and none was chosen.
    """
    if audio:
        if audio in candidates:
            return audio
        raise ListingError(f"{path}: no column `{audio}` of audio bytes, only {_typed(kinds)}")
    if len(likely) > 1:
        raise ListingError(
            f"{path}: {len(likely)} columns may be the audio ({', '.join(likely)}); say which with "
            "the option `audio`"
        )
    if not likely:
        raise ListingError(f"{path}: no column of audio bytes, only {_typed(kinds)}")
    return likely[0]


def _typed(kinds: Mapping[str, str]) -> str:
    """Return columns and their types as text for a message."""
    return ", ".join(f"{name} ({kind})" for name, kind in kinds.items())[:300] or "none at all"


def is_picture(value: Any) -> bool:
    """Return whether a value, bytes or `{bytes, path}`, is an image."""
    path = ""
    if isinstance(value, dict):
        value, path = value.get("bytes"), str(value.get("path") or "")
    if isinstance(value, bytes) and value:
        return value.startswith(_MARKS) or (value[:4], value[8:12]) == (b"RIFF", b"WEBP")
    return PurePosixPath(path).suffix.lower() in _PICTURES


def _names_differ(table: Any, column: str) -> bool:
    """Return whether the paths beside the audio differ in all rows of a file."""
    kind = table.schema_arrow.field(column).type
    if "id" in table.schema_arrow.names or kind.num_fields == 0 or kind.get_field_index("path") < 0:
        return True
    values = table.read(columns=[f"{column}.path"]).column(column).to_pylist()
    paths = [value["path"] for value in values if value and value["path"]]
    return len(set(paths)) == len(paths)


def item_of(row: dict[str, Any], column: str, otherwise: str, *, named: bool = True) -> Recording:
    """Return the item of a row.

    Args:
        row: the row; its fields other than the audio are carried through.
        column: name of the column of audio.
        otherwise: the id if there is no column `id`, and no name beside the audio.
        named: whether the name beside the audio may be the id.
    """
    audio = row.pop(column)
    audio = audio if isinstance(audio, dict) else {"bytes": audio}
    data, path = audio.get("bytes"), str(audio.get("path") or "")
    row_id = row.pop("id", None)
    if row_id in (None, ""):
        row_id = path if path and named else otherwise
    name = str(row_id)
    values = {key: plain(value) for key, value in with_our_names(row).items()}
    rest = {key: value for key, value in values.items() if value is not None}
    seconds = length_of(rest)
    if data is None and path:  # the row holds only a path
        return Recording(name, AudioLocator(path, path), rest, seconds)
    if not data:
        return Recording(
            name, AudioLocator(path or name, error=f"`{column}` is empty"), rest, seconds
        )
    return Recording(name, AudioLocator(path or name, data=data), rest, seconds)


def plain(value: Any) -> Any:
    """Return a value as JSON has it: None for bytes, for structs of bytes, and for nan and inf."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes | bytearray | memoryview):
        return None
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return None if "bytes" in value else {str(k): plain(v) for k, v in value.items()}
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
