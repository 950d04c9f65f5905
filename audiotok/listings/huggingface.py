"""Hugging Face datasets: saved here, or streamed from the hub or from files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from audiotok.listings.base import ALL, Item, Listing, Split, every
from audiotok.listings.parquet import item_of
from audiotok.missing import needed
from audiotok.place import ListingError, is_url


class Huggingface(Listing):
    """`hf:NAME`, `hf:NAME@SPLIT`, `hf:NAME:CONFIG@SPLIT`, or a folder that `save_to_disk` made.

    NAME is one of the hub's, or a folder of data files, and is streamed: nothing is put on the
    disk. Audio is decoded by audiotok, not by `datasets`.
    """

    about = "a Hugging Face dataset: hf:NAME:CONFIG@SPLIT, streamed, or a folder saved by it"
    costly = True

    @classmethod
    def takes(cls, path: str) -> bool:
        """See `Listing.takes`."""
        if path.startswith("hf:"):
            return True
        there = [Path(path) / name for name in ("dataset_info.json", "dataset_dict.json")]
        return not is_url(path) and any(file.is_file() for file in there)

    def items(self, path: str, part: Split = ALL) -> Iterator[Item]:
        """See `Listing.items`."""
        data, column = _opened(path)
        rows = (item_of(dict(row), column, f"row-{number}") for number, row in enumerate(data))
        yield from every(rows, part)


def _no_code(datasets: Any) -> dict[str, bool]:
    """Options that keep a dataset from running a script of its own, which none has from 4 on."""
    old = int(datasets.__version__.partition(".")[0]) < 4
    return {"trust_remote_code": False} if old else {}


def _opened(path: str) -> tuple[Any, str]:
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
        raise ListingError(f"{path}: datasets cannot open it ({error})") from None
    features = data.features or {}
    column = next((k for k, f in features.items() if isinstance(f, datasets.Audio)), None)
    if column is None:
        raise ListingError(f"{path}: no column of audio, only {', '.join(features) or 'none'}")
    return data.cast_column(column, datasets.Audio(decode=False)), column
