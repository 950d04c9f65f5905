"""File locks: one process at a time in a folder where two would destroy each other's work."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from audiotok._platform.errors import Error


class LockedError(Error, ValueError):
    """Error of a folder that another process has locked."""


@contextmanager
def locked_folder(folder: Path, name: str = ".lock", *, wait: bool = False) -> Iterator[None]:
    """Hold an exclusive lock on a folder while the context lasts.

    The operating system releases the lock when this process ends, in whatever way; the lock file
    stays. Where the system or the file system has no locks, there is none.

    Args:
        folder: the folder to lock; created if missing.
        name: name of the lock file in it.
        wait: whether to wait until the lock is free, also of threads of this process.

    Raises:
        LockedError: another process holds the lock, and `wait` is False.
    """
    with _locked(folder, folder / name, wait=wait):
        yield


@contextmanager
def _locked(folder: Path, file: Path, *, wait: bool) -> Iterator[None]:
    while True:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab") as lock_file:
            try:
                import fcntl
            except ImportError:  # Windows has no fcntl
                yield
                return
            try:
                fcntl.flock(lock_file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                raise LockedError(
                    f"{folder}: another process works there; wait for it, or use another folder"
                ) from None
            except OSError:  # a file system without locks
                yield
                return
            try:  # the last holder may have removed the file, and this lock would be on no file
                same = os.path.samestat(os.fstat(lock_file.fileno()), file.stat())
            except FileNotFoundError:
                same = False
            if same:
                yield
                return
