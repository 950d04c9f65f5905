"""Lhotse Shar: cuts in `cuts.*.jsonl.gz`, and their audio, in the same order, in tar files."""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace
from functools import lru_cache
from typing import Any

from audiotok._platform.errors import InputError
from audiotok._platform.jsonfile import shown
from audiotok.data.archives import bytes_of, locator_of, tar_members
from audiotok.data.cuts import cut_of, naming, read_entry
from audiotok.data.locator import AudioLocator, ListingError, is_url
from audiotok.data.recording import Recording
from audiotok.data.remote import PAGE, below
from audiotok.data.sources.base import Containers, files_of, joined, names_in, parent, text_lines
from audiotok.data.transient import READING_WAITS

_CUTS = re.compile(r"cuts(\..+)?\.jsonl(\.gz)?")
_TARS = re.compile(r"recording(\..+)?\.tar(\.gz)?")
_TABLES = (".jsonl", ".jsonl.gz")
_EMPTY = (".nodata", ".nometa")  # members that stand for a cut without audio


class Shar(Containers):
    """Cuts with their audio in tar files beside them, as lhotse's `SharWriter` makes them.

    The source is the folder, one `cuts.000000.jsonl.gz`, or a range of them. A cut is read by
    audiotok, with its start, its duration and its channels, to the sample as lhotse reads it.
    Tables of further fields (`score.000000.jsonl.gz`) are carried through; arrays and custom
    recordings are left out.
    """

    description = "Lhotse Shar: a folder of cuts.*.jsonl.gz and recording.*.tar"

    @classmethod
    def takes(cls, path: str) -> bool:
        """See `Listing.takes`."""
        if path.lower().endswith(_TABLES):
            return bool(_CUTS.fullmatch(_name(path))) and _has_placeholder(path)
        names = list(names_in(path))
        # A bucket only shows its first names, in order: many cuts hide the tar files after them.
        tars = any(map(_TARS.fullmatch, names)) or (is_url(path) and len(names) >= PAGE)
        return tars and any(map(_CUTS.fullmatch, names))

    def containers(self, path: str) -> list[str]:
        """See `Containers.containers`."""
        _names.cache_clear()
        files = files_of(path, _TABLES)
        if path.lower().endswith(_TABLES):
            return files
        folder = path.rstrip("/")
        files = [file for file in files if parent(file) == folder and _CUTS.fullmatch(_name(file))]
        if not files:
            raise ListingError(f"{path}: no cuts.*.jsonl.gz file there")
        return files

    def items_of(self, path: str, file: str) -> Iterator[Recording]:
        """See `Listing.items_of`."""
        tables = _tables(file)
        tar = "" if "recording" in tables else _tar_of(file)
        with closing(_audio(tar)) as audio:
            for number, line in text_lines(file):
                where = f"{file}, line {number}"
                cut = read_entry(line, where)
                with naming(where):
                    for field, lines in tables.items():
                        _add(cut, field, read_entry(next(lines, (0, "{}"))[1], where))
                    yield (
                        _item(cut, next(audio, None), tar)
                        if tar
                        else cut_of(cut, json.dumps(cut, ensure_ascii=False))
                    )
            if next(audio, None):
                raise ListingError(f"{tar}: has more recordings than {_name(file)} has cuts")


def _name(path: str) -> str:
    """Return the last part of a path or URL."""
    return path.replace("\\", "/").rpartition("/")[2]


def _has_placeholder(path: str) -> bool:
    """Return whether the audio of the first cut of a file is in a tar file."""
    first = files_of(path, _TABLES)[0]
    try:
        cut = read_entry(next(text_lines(first), (0, "{}"))[1], first)
        return cut["recording"]["sources"][0]["type"] == "shar"
    except (ValueError, KeyError, TypeError, IndexError):
        return False


@lru_cache(4)
def _names(folder: str) -> tuple[str, ...]:
    """Return the names of the files in a folder or below a URL."""
    if not is_url(folder):
        return tuple(names_in(folder))
    start = len(folder.rstrip("/")) + 1
    return tuple(url[start:] for url in below(folder, READING_WAITS))


def _beside(file: str) -> Iterator[tuple[str, str]]:
    """Yield the name of each field in a file beside a file of cuts, and that file's name."""
    named = _CUTS.fullmatch(_name(file))
    number = (named[1] if named else None) or ""
    pattern = re.compile(rf"([^.]+){re.escape(number)}\.(tar|jsonl)(\.gz)?")
    for name in _names(parent(file)):
        if (other := pattern.fullmatch(name)) and other[1] != "cuts":
            yield other[1], name


def _tables(file: str) -> dict[str, Iterator[tuple[int, str]]]:
    """Return the numbered lines of the tables beside a file of cuts, by the name of the field."""
    folder = parent(file)
    named = {field: name for field, name in _beside(file) if name.endswith(_TABLES)}
    return {field: text_lines(joined(folder, name)) for field, name in named.items()}


def _tar_of(file: str) -> str:
    """Return the tar file with the audio of a file of cuts."""
    for field, name in _beside(file):
        if field == "recording":
            return file.removesuffix(_name(file)) + name
    raise ListingError(f"{file}: no tar file of recordings beside it; fetch it too")


def _audio(path: str) -> Generator[tuple[str, AudioLocator | None, Any], None, None]:
    """Yield the cut's id, the locator and the description of each recording in a tar file.

    A cut without audio has neither. Each recording is two members: the audio, and its description.
    """
    if not path:
        return
    with tar_members(path) as members:
        for tar, member in members:
            stem, _, kind = member.name.rpartition(".")
            empty = f".{kind}" in _EMPTY
            locator = None if empty else locator_of(path, tar, member)
            tar, second = next(members, (tar, None))
            if second is None or second.name.rpartition(".")[0] != stem:
                raise ListingError(f"{path}/{member.name}: not followed by its description")
            where = f"{path}/{second.name}"
            yield stem, locator, None if empty else read_entry(bytes_of(tar, second), where)


def _add(cut: Any, field: str, row: Any) -> None:
    """Add a field of a table beside the cuts to a cut."""
    if row.get("cut_id") != cut["id"]:
        other = shown(row["cut_id"]) if "cut_id" in row else "nothing"
        raise InputError(f"`{field}` has {other} in its place")
    if field in row:
        where = cut if field == "recording" else cut.setdefault("custom", {})
        where[field] = row[field]


def _item(cut: Any, audio: tuple[str, AudioLocator | None, Any] | None, tar: str) -> Recording:
    """Return the item of a cut whose audio was found in a tar file.

    Raises:
        ValueError: it is not the audio of this cut, or not a plain stretch of it.
    """
    if audio is None or audio[0] != str(cut["id"]):
        other = shown(audio[0]) if audio else "nothing"
        raise InputError(f"{_name(tar)} has {other} in its place")
    _, locator, description = audio
    custom = {k: v for k, v in (cut.get("custom") or {}).items() if not _is_data(v)}
    if locator is None:
        none = AudioLocator(f"{_name(tar)}/{audio[0]}", error="no audio in this cut")
        return replace(cut_of({**cut, "custom": custom}, "{}"), locator=none)
    (source,) = description["sources"]
    channels = source["channels"]
    plain = {**description, "sources": [{**source, "type": "file", "source": tar}]}
    cut = {**cut, "custom": custom, "recording": plain}
    every = cut["type"] == "MultiCut" and cut["channel"] == channels
    if every:
        cut |= {"type": "MonoCut", "channel": channels[0]}
    item = cut_of(cut, "{}")
    of = item.locator
    if of.cut:
        raise InputError(f"a {cut['type']} that is no stretch of one channel, or of all channels")
    channel = None if every else of.channel
    of = replace(locator, start=of.start, end=of.end, channel=channel, overshoot=of.overshoot)
    return replace(item, locator=of)


def _is_data(value: Any) -> bool:
    """Return whether a custom field of a cut is a recording or an array, which tar files hold."""
    return isinstance(value, dict) and not value.keys().isdisjoint(
        ("sources", "storage_type", "array")
    )
