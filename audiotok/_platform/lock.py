"""One process at a time where two would undo each other's work."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class LockedError(ValueError):
    """Another process is at work there."""


@contextmanager
def alone(folder: Path, name: str = ".lock", *, wait: bool = False) -> Iterator[None]:
    """While it lasts, no other process gets through here with the same file `name` of a folder.

    The system lets go of it when this process ends, in whatever way; the file stays.

    Args:
        folder: where the file is; it is made.
        name: of the file.
        wait: whether to wait for its turn, threads of this process included.

    Raises:
        LockedError: another process holds it, and this one does not wait.
    """
    with _locked(folder, folder / name, wait=wait):
        yield


@contextmanager
def _locked(folder: Path, file: Path, *, wait: bool) -> Iterator[None]:
    while True:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab") as held:
            try:
                import fcntl
            except ImportError:  # another system
                yield
                return
            try:
                fcntl.flock(held, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                raise LockedError(
                    f"{folder}: another process works there; wait for it, or use another folder"
                ) from None
            except OSError:  # a file system without locks
                yield
                return
            try:  # whoever had it may have removed the file when it was done
                same = os.path.samestat(os.fstat(held.fileno()), file.stat())
            except FileNotFoundError:
                same = False
            if same:
                yield
                return
