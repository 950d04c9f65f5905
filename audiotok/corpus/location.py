"""Storage that a path or a URL names; URLs that were taken for paths."""

from __future__ import annotations

import re
from pathlib import Path

from audiotok._platform.errors import InputError
from audiotok.corpus.bucket import Bucket
from audiotok.corpus.storage import Folder, Storage
from audiotok.data.locator import is_url


def storage_of(location: str | Path | Storage) -> Storage:
    """Return the place that a path or a URL names.

    Raises:
        InputError: the URL is of something that cannot hold a corpus.
    """
    if isinstance(location, Storage):
        return location
    if isinstance(location, str) and is_url(location):
        local = location.removeprefix("file://")
        return Bucket(location) if local == location else Folder(Path(local))
    if url := flattened_url(location):
        raise InputError(f"{location}: write it as {url}, and as text: a Path loses a slash of it")
    return Folder(Path(location))


def folder_of(location: str | Path | Storage) -> Path:
    """Return the folder of this machine that a path names.

    Raises:
        InputError: it is a URL.
    """
    if not (isinstance(location, str) and is_url(location)) or location.startswith("file:"):
        storage = storage_of(location)
        if isinstance(storage, Folder):
            return storage.folder
    name = location.name if isinstance(location, Storage) else location
    raise InputError(
        f"{name}: this takes a folder of this machine, not a URL; copy between the two "
        "(`aws s3 sync` for s3://)"
    )


def flattened_url(path: str | Path) -> str:
    """Return the URL of which a path was made, with its slash lost; "" if it was made of none."""
    match = re.match(r"([a-z][a-z0-9+.-]+:)/(?!/)", str(path))
    return f"{match[1]}//{str(path)[match.end() :]}" if match else ""
