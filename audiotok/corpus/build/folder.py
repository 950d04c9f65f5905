"""The folder of a build: whether its corpus is there already, and clearing it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from audiotok.corpus.base import About, CorpusError, read_about
from audiotok.corpus.inputs import INPUTS
from audiotok.corpus.write import LISTS


def check(folder: Path) -> None:
    """Make the folder if it is not there.

    Raises:
        CorpusError: something else is in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ours = (folder / ".build").is_dir() or (folder / "corpus.json").is_file()
    if not ours and any(folder.iterdir()):
        raise CorpusError(f"{folder}: not empty, and no corpus is begun there")


def finished(folder: Path, about: About) -> About | None:
    """Return the corpus that is there already, if it is what would be built; None: there is none.

    Raises:
        CorpusError: another corpus is there.
    """
    try:
        made = read_about(folder)
    except CorpusError:
        if (folder / "corpus.json").exists() and not (folder / ".build" / "job.json").is_file():
            raise
        return None
    if replace(made, shards=(), quarantined=0, lists={}) != about:
        raise CorpusError(f"{folder}: another corpus is there; --force begins anew")
    return made


def clear(folder: Path) -> None:
    """Remove a corpus, or what was begun of one, but for the lock, and nothing else."""
    (folder / "corpus.json").unlink(missing_ok=True)
    for path in (*folder.glob("shard-*.*"), *(folder / name for name in (*LISTS, INPUTS))):
        path.unlink(missing_ok=True)
    empty(folder / ".build")


def empty(inner: Path) -> None:
    """Remove the files of a build, but for the lock."""
    for path in sorted(inner.iterdir()):
        if path.name != "lock":
            path.unlink(missing_ok=True)


def remove(inner: Path) -> None:
    """Remove what only a build needs, the lock last."""
    empty(inner)
    (inner / "lock").unlink(missing_ok=True)
    with suppress(OSError):  # another process, which waits for the lock, has made a new one
        inner.rmdir()
