"""Hugging Face datasets: saved in a folder, or streamed from the hub or from files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from audiotok._platform.optional import optional_import
from audiotok.data.locator import ListingError, is_url
from audiotok.data.recording import Recording
from audiotok.data.sources.base import ALL, Listing, Split, every
from audiotok.data.sources.parquet import choose, is_picture, item_of

ROWS = 1000  # rows of a saved dataset that are handed out together


class Huggingface(Listing):
    """A dataset `hf:NAME`, `hf:NAME@SPLIT` or `hf:NAME:CONFIG@SPLIT`, or one saved to a folder.

    NAME is a dataset on the hub, or a folder of data files, and is streamed: nothing is stored on
    disk. A folder is one that `save_to_disk` wrote. Audio is decoded by audiotok, not by
    `datasets`.
    """

    description = "a Hugging Face dataset: hf:NAME:CONFIG@SPLIT, streamed, or a folder saved by it"
    costly = True
    chooses = True

    @classmethod
    def takes(cls, path: str) -> bool:
        """See `Listing.takes`."""
        if path.startswith("hf:"):
            return True
        files = [Path(path) / name for name in ("dataset_info.json", "dataset_dict.json")]
        return not is_url(path) and any(file.is_file() for file in files)

    def items(self, path: str, part: Split = ALL) -> Iterator[Recording]:
        """See `Listing.items`."""
        data, column = _open(path, self.audio)
        for number, row in every(enumerate(_read(path, data)), part):
            yield item_of(dict(row), column, f"row-{number}")

    def files(self, path: str, part: Split = ALL) -> list[str]:
        """Return ranges of rows, `FOLDER#0-1000`, of a saved dataset; see `Listing.files`."""
        if path.startswith("hf:") or part != ALL:  # streamed from the front; parts are of rows
            return []
        count = len(_open(path, self.audio)[0])
        return [f"{path}#{at}-{min(at + ROWS, count)}" for at in range(0, count, ROWS)]

    def items_of(self, path: str, file: str) -> Iterator[Recording]:
        """See `Listing.items_of`."""
        folder, _, rows = file.rpartition("#")
        first, end = map(int, rows.split("-"))
        data, column = _open(folder, self.audio)
        for number, row in enumerate(_read(folder, data.select(range(first, end))), first):
            yield item_of(dict(row), column, f"row-{number}")


def _no_code(datasets: Any) -> dict[str, bool]:
    """Return options that keep a dataset from running a script, as versions before 4 could."""
    old = int(datasets.__version__.partition(".")[0]) < 4
    return {"trust_remote_code": False} if old else {}


def _read(path: str, data: Any) -> Iterator[Any]:
    """Yield the rows of a dataset, and raise ListingError where it cannot be read."""
    try:
        yield from data
    except Exception as error:  # datasets passes on any exception of its readers
        raise ListingError(f"{path}: datasets cannot read it ({_line(error)})") from None


def _open(path: str, audio: str) -> tuple[Any, str]:
    """Return the dataset with its audio left encoded, and the name of the column of audio."""
    datasets: Any = optional_import("datasets", extra="corpus")
    name, _, split = path.removeprefix("hf:").partition("@")
    try:
        if path.startswith("hf:"):
            name, _, config = name.partition(":")
            data = datasets.load_dataset(
                name, config or None, split=split or "train", streaming=True, **_no_code(datasets)
            )
        else:
            data = datasets.load_from_disk(name)
            if isinstance(data, datasets.DatasetDict):
                if split not in data and len(data) != 1:
                    raise ListingError(f"{path}: say which split, {name}@{next(iter(data))} ...")
                data = data[split or next(iter(data))]
    except ListingError:
        raise
    except Exception as error:  # datasets passes on any exception of its readers
        raise ListingError(f"{path}: datasets cannot open it ({_line(error)})") from None
    features = dict(data.features or {})
    if not features:  # the columns of a stream may only be known after reading a row
        row = next(_read(path, data), {})
        features = {name: type(value).__name__ for name, value in row.items()}
    candidates = [name for name, kind in features.items() if _holds_bytes(datasets, kind)]
    likely = [name for name in candidates if isinstance(features[name], datasets.Audio)]
    if not likely:
        columns = data.select_columns(candidates) if candidates else []
        first: Any = next(_read(path, columns), {})
        likely = [name for name in candidates if not is_picture(first.get(name))]
    kinds = {name: _type_name(kind) for name, kind in features.items()}
    column = choose(likely, candidates, kinds, path, audio)
    for name, kind in features.items():
        for encoded in (datasets.Audio, datasets.Image):
            if isinstance(kind, encoded):
                data = data.cast_column(name, encoded(decode=False))
    return data, column


def _holds_bytes(datasets: Any, kind: Any) -> bool:
    """Return whether a column of this type holds audio or bytes."""
    if isinstance(kind, datasets.Audio):
        return True
    if isinstance(kind, dict):
        kind = kind.get("bytes")
    return isinstance(kind, datasets.Value) and kind.dtype in ("binary", "large_binary")


def _type_name(kind: Any) -> str:
    """Return the name of a column's type, for messages."""
    if isinstance(kind, dict):
        return "{" + ", ".join(map(str, kind)) + "}"
    return str(getattr(kind, "dtype", kind)) if not isinstance(kind, str) else kind


def _line(error: Exception) -> str:
    """Return an error's message as one line."""
    return " ".join(str(error).split())[:300]
