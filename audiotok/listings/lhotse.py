"""Lhotse's cuts, as JSON a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from audiotok.listings.base import ALL, Item, Listing, Split, every, text_lines
from audiotok.place import ListingError, Place


class Lhotse(Listing):
    """Cuts of a `cuts.jsonl` or `cuts.jsonl.gz`; paths are from where you are, as lhotse has it.

    A cut that is a stretch of one file is read by audiotok. Any other (mixed, padded, sped up,
    several files) is loaded by lhotse, which must be there.
    """

    about = "Lhotse's cuts (.jsonl or .jsonl.gz)"

    @classmethod
    def takes(cls, path: str) -> bool:
        """See `Listing.takes`."""
        if not path.lower().endswith((".jsonl", ".jsonl.gz")):
            return False
        try:
            first = next(text_lines(path), (0, "{}"))[1]
            kind = json.loads(first).get("type", "")
        except (ValueError, AttributeError):
            return False
        return kind in ("MonoCut", "MultiCut", "MixedCut", "PaddingCut")

    def items(self, path: str, part: Split = ALL) -> Iterator[Item]:
        """See `Listing.items`."""
        for number, line in every(text_lines(path), part):
            try:
                yield _item(json.loads(line), line)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ListingError(f"{path}, line {number}: not a cut ({error!r})") from None


def _item(cut: dict[str, Any], line: str) -> Item:
    name = cut["id"]
    row = dict(cut.get("custom") or {})
    spoken = cut.get("supervisions") or []
    for key in ("text", "speaker", "language"):
        said = [str(each[key]) for each in spoken if each.get(key)]
        if said:
            row[key] = " ".join(said) if key == "text" else said[0]
    seconds = float(cut["duration"]) if "duration" in cut else None
    return Item(name, _simple(cut) or Place(name, cut=line), row, seconds)


def _simple(cut: dict[str, Any]) -> Place | None:
    """The stretch of a file that a cut is, if it is no more than that."""
    recording = cut.get("recording") or {}
    sources = recording.get("sources") or []
    if cut.get("type") != "MonoCut" or recording.get("transforms") or len(sources) != 1:
        return None
    source = sources[0]
    if source["type"] not in ("file", "url") or cut["channel"] not in source["channels"]:
        return None
    start, end = float(cut["start"]), float(cut["start"]) + float(cut["duration"])
    whole = not start and abs(end - float(recording["duration"])) < 1e-6
    return Place(
        cut["id"],
        source["source"],
        start=start,
        end=None if whole else end,
        channel=None if len(source["channels"]) == 1 else source["channels"].index(cut["channel"]),
    )
