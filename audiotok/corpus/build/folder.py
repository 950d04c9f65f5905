"""Folder of a build: check for an existing corpus, and removal of files."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from audiotok.corpus.base import CorpusError, CorpusInfo, read_info
from audiotok.corpus.inputs import INPUTS
from audiotok.corpus.write import LISTS
from audiotok.data.locator import normal_path


def check(folder: Path) -> None:
    """Make the folder of a build if it does not exist.

    Raises:
        CorpusError: the folder holds other files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ours = (folder / ".build").is_dir() or (folder / "corpus.json").is_file()
    if not ours and any(folder.iterdir()):
        raise CorpusError(f"{folder}: not empty, and no corpus is begun there")


def finished(folder: Path, expected: CorpusInfo) -> CorpusInfo | None:
    """Return the finished corpus in a folder, or None if there is none.

    Args:
        folder: the folder.
        expected: content of corpus.json that the build would write, without shards.

    Raises:
        CorpusError: the folder holds another corpus.
    """
    try:
        info = read_info(folder)
    except CorpusError:
        if (folder / "corpus.json").exists() and not (folder / ".build" / "job.json").is_file():
            raise
        return None
    there = replace(info, shards=(), quarantined=0, lists={}, job=normal_job(info.job))
    if there != expected:
        differ = [
            f.name for f in fields(there) if getattr(there, f.name) != getattr(expected, f.name)
        ]
        raise CorpusError(
            f"{folder}: another corpus is there (it differs in {', '.join(differ)}); "
            "--force begins anew"
        )
    return info


def normal_job(job: dict[str, Any]) -> dict[str, Any]:
    """Return a stored job with its listing spelled as new ones are: once it was as it was typed."""
    return {**job, "listing": normal_path(job["listing"])} if "listing" in job else job


def clear(folder: Path) -> None:
    """Remove the files of a corpus or of an unfinished build, except the lock."""
    (folder / "corpus.json").unlink(missing_ok=True)
    for path in (*folder.glob("shard-*.*"), *(folder / name for name in (*LISTS, INPUTS))):
        path.unlink(missing_ok=True)
    empty(folder / ".build")


def empty(inner: Path) -> None:
    """Remove the files of a build, except the lock."""
    for path in sorted(inner.iterdir()):
        if path.name != "lock":
            path.unlink(missing_ok=True)


def remove(inner: Path) -> None:
    """Remove the folder that only a build needs, the lock last."""
    empty(inner)
    (inner / "lock").unlink(missing_ok=True)
    with suppress(OSError):  # another process that waits for the lock has made a new one
        inner.rmdir()
