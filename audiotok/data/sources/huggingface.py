"""Hugging Face datasets: saved here, or streamed from the hub or from files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from audiotok._platform.optional import needed
from audiotok.data.locator import ListingError, is_url
from audiotok.data.sources.base import ALL, Item, Listing, Split, every
from audiotok.data.sources.parquet import choose, is_picture, item_of


class Huggingface(Listing):
    """`hf:NAME`, `hf:NAME@SPLIT`, `hf:NAME:CONFIG@SPLIT`, or a folder that `save_to_disk` made.

    NAME is one of the hub's, or a folder of data files, and is streamed: nothing is put on the
    disk. Audio is decoded by audiotok, not by `datasets`.
    """

    about = "a Hugging Face dataset: hf:NAME:CONFIG@SPLIT, streamed, or a folder saved by it"
    costly = True
    chooses = True

    @classmethod
    def takes(cls, path: str) -> bool:
        """See `Listing.takes`."""
        if path.startswith("hf:"):
            return True
        there = [Path(path) / name for name in ("dataset_info.json", "dataset_dict.json")]
        return not is_url(path) and any(file.is_file() for file in there)

    def items(self, path: str, part: Split = ALL) -> Iterator[Item]:
        """See `Listing.items`."""
        data, column = _opened(path, self.audio)
        for number, row in every(enumerate(_read(path, data)), part):
            yield item_of(dict(row), column, f"row-{number}")


def _no_code(datasets: Any) -> dict[str, bool]:
    """Options that keep a dataset from running a script of its own, which none has from 4 on."""
    old = int(datasets.__version__.partition(".")[0]) < 4
    return {"trust_remote_code": False} if old else {}


def _read(path: str, data: Any) -> Iterator[Any]:
    try:
        yield from data
    except Exception as error:  # datasets raises what its many readers raise
        raise ListingError(f"{path}: datasets cannot read it ({_line(error)})") from None


def _opened(path: str, audio: str) -> tuple[Any, str]:
    """The dataset, its audio left encoded, and the column of that."""
    datasets: Any = needed("datasets", extra="corpus")
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
    except Exception as error:  # datasets raises what its many readers raise
        raise ListingError(f"{path}: datasets cannot open it ({_line(error)})") from None
    features = dict(data.features or {})
    if not features:  # of a stream that has to be read to know
        row = next(_read(path, data), {})
        features = {name: type(value).__name__ for name, value in row.items()}
    there = [name for name, kind in features.items() if _holds_bytes(datasets, kind)]
    likely = [name for name in there if isinstance(features[name], datasets.Audio)]
    if not likely:
        first: Any = next(_read(path, data.select_columns(there)), {}) if there else {}
        likely = [name for name in there if not is_picture(first.get(name))]
    kinds = {name: _called(kind) for name, kind in features.items()}
    column = choose(likely, there, kinds, path, audio)
    for name, kind in features.items():
        for encoded in (datasets.Audio, datasets.Image):
            if isinstance(kind, encoded):
                data = data.cast_column(name, encoded(decode=False))
    return data, column


def _holds_bytes(datasets: Any, kind: Any) -> bool:
    if isinstance(kind, datasets.Audio):
        return True
    if isinstance(kind, dict):
        kind = kind.get("bytes")
    return isinstance(kind, datasets.Value) and kind.dtype in ("binary", "large_binary")


def _called(kind: Any) -> str:
    if isinstance(kind, dict):
        return "{" + ", ".join(map(str, kind)) + "}"
    return str(getattr(kind, "dtype", kind)) if not isinstance(kind, str) else kind


def _line(error: Exception) -> str:
    """Return what an error says, on one line."""
    return " ".join(str(error).split())[:300]
