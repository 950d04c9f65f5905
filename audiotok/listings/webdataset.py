"""WebDataset: tar files whose members of one name make a sample."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from audiotok.io.decoders import AUDIO
from audiotok.listings.base import ALL, Item, Listing, Split, by_file, every, files_of
from audiotok.place import ListingError, Place, is_url, reading

_TARS = (".tar", ".tar.gz", ".tgz")


class Webdataset(Listing):
    """Samples of tar files: `x.flac` with `x.json`, `x.txt` ...; the id is the members' name.

    One tar file, a folder of them, a glob, or a range as in `shard-{000..099}.tar`; here or behind
    a URL. Of a tar file on disk, members are read where they lie.
    """

    about = "WebDataset tar files: one, a folder, a glob, or shard-{000..099}.tar"
    costly = True

    @classmethod
    def takes(cls, path: str) -> bool:
        """See `Listing.takes`."""
        if path.lower().endswith(_TARS):
            return True
        return not is_url(path) and Path(path).is_dir() and any(Path(path).glob("*.tar"))

    def items(self, path: str, part: Split = ALL) -> Iterator[Item]:
        """See `Listing.items`."""
        files, rest = by_file(files_of(path, _TARS), part)
        yield from every((item for file in files for item in _samples(file)), rest)


def _samples(path: str) -> Iterator[Item]:
    """The samples of a tar file: its members of one name stand next to each other."""
    plain = not is_url(path) and path.endswith(".tar")
    archive = path.replace("\\", "/").rpartition("/")[2]
    name, place, row = "", None, {}
    try:
        with (
            reading(path) as file,
            tarfile.open(fileobj=file, mode="r:" if plain else "r|*") as tar,
        ):
            for member in tar:
                if not member.isfile() or "/." in f"/{member.name}":
                    continue
                inner = PurePosixPath(member.name)
                stem, _, kind = inner.name.partition(".")
                key, kind = str(inner.with_name(stem)), f".{kind.lower()}"
                if key != name:
                    if place:
                        yield Item(name, place, row, _length(row))
                    name, place, row = key, None, {}
                if kind.endswith(AUDIO):
                    called = f"{archive}/{member.name}"
                    if plain:
                        place = Place(called, path, offset=member.offset_data, size=member.size)
                    else:
                        place = Place(called, data=_bytes(tar, member))
                elif kind in (".json", ".txt", ".text", ".cls", ".lab", ".spk"):
                    row |= _known(kind, _bytes(tar, member), f"{path}/{member.name}")
            if place:
                yield Item(name, place, row, _length(row))
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ListingError(f"{path}: damaged, or not a tar file ({error}); fetch it anew") from None


def _bytes(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    return file.read() if file else b""


def _known(kind: str, data: bytes, name: str) -> dict[str, Any]:
    try:
        if kind == ".json":
            row = json.loads(data)
            return row if isinstance(row, dict) else {"json": row}
        text = data.decode().strip()
    except ValueError as error:
        raise ListingError(f"{name}: cannot be read ({error})") from None
    return {{".cls": "class", ".spk": "speaker"}.get(kind, "text"): text}


def _length(row: dict[str, Any]) -> float | None:
    value = row.get("seconds", row.get("duration"))
    return float(value) if isinstance(value, (int, float)) else None
