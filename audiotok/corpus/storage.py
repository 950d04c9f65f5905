"""Places of a corpus's files: a folder of this machine, or object storage behind a URL of fsspec.

Both have files that are complete or not there. A folder has a lock; a bucket has none, so a build
writes who it is to an object, and ends as soon as that object names another build.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from audiotok._platform.atomic import atomic_file, remove_stale_parts
from audiotok._platform.errors import Error
from audiotok._platform.lock import locked_folder
from audiotok.tokens.errors import explained

INNER = ".build"  # folder of what only an unfinished build needs
LOCK, OWNER = f"{INNER}/lock", f"{INNER}/owner"


class StorageError(Error, OSError):
    """Error of a store that cannot be read or written; one line with the URL and a remedy."""


class Storage(ABC):
    """Place of a corpus's files, which are named by their path in it, `.build/job.json`.

    Attributes:
        name: the folder or the URL, for messages.
        remote: whether files are objects, which are made on this machine and then stored.
    """

    name: str
    remote: bool

    @abstractmethod
    def path(self, name: str) -> Path:
        """Return the path on this machine at which a file is made."""

    @abstractmethod
    def fetch(self, name: str) -> Path:
        """Return the path on this machine at which a file can be read.

        Raises:
            FileNotFoundError: there is no such file.
            StorageError: the store cannot be read.
        """

    @abstractmethod
    def forget(self, names: Iterable[str]) -> None:
        """Remove the copies on this machine that `fetch` made."""

    @abstractmethod
    def push(self, names: Iterable[str]) -> None:
        """Store files that are complete at their `path`."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Return the content of a file; raises as `fetch` does."""

    @abstractmethod
    def publish(self, name: str, data: bytes) -> None:
        """Write a small file, complete or not at all, so that it stays."""

    @abstractmethod
    def copy(self, name: str, to: str) -> None:
        """Copy a file to another name here, or link it."""

    @abstractmethod
    def delete(self, names: Iterable[str]) -> None:
        """Remove files, in this order; those that are not there are passed over."""

    @abstractmethod
    def lengths(self, under: str = "") -> dict[str, int]:
        """Return names and lengths in bytes of all files, or of those in a folder."""

    @abstractmethod
    def alone(self) -> Any:
        """Return a context manager in which no other build works here.

        Raises:
            LockedError: another build works here, or has begun to (from any method that writes).
        """

    @abstractmethod
    def hurry(self) -> None:
        """Repeat nothing from now on: this build is ending."""

    @abstractmethod
    def release(self) -> None:
        """Remove what tells other builds that one works here."""

    def exists(self, name: str) -> bool:
        """Return whether there is a file of this name."""
        try:
            self.read(name)
        except FileNotFoundError:
            return False
        return True

    @abstractmethod
    def holds_other(self) -> bool:
        """Return whether there are files, and none of a corpus; a folder is made."""

    @property
    def begun(self) -> bool:
        """True if a build has begun here, and has not removed what only it needs."""
        return bool(self.lengths(INNER))

    def read_all(self, names: Iterable[str]) -> dict[str, bytes]:
        """Return the content of those files that are there."""
        content = {}
        for name in names:
            with suppress(FileNotFoundError):
                content[name] = self.read(name)
        return content


class Folder(Storage):
    """Folder of this machine."""

    remote = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = str(folder)
        self._new = False  # whether the folder was made here

    def path(self, name: str) -> Path:
        """See `Storage`."""
        return self.folder / name

    def fetch(self, name: str) -> Path:
        """See `Storage`."""
        return self.folder / name

    def forget(self, names: Iterable[str]) -> None:
        """See `Storage`: there are no copies."""

    def push(self, names: Iterable[str]) -> None:
        """See `Storage`: they are there, and only their names are flushed to the disk."""
        for folder in {self.path(name).parent for name in names}:
            sync(folder)

    def read(self, name: str) -> bytes:
        """See `Storage`."""
        return self.path(name).read_bytes()

    def exists(self, name: str) -> bool:
        """See `Storage`."""
        return self.path(name).is_file()

    def publish(self, name: str, data: bytes) -> None:
        """See `Storage`."""
        publish(self.path(name), data)
        sync(self.path(name).parent)

    def copy(self, name: str, to: str) -> None:
        """See `Storage`."""
        self.path(to).unlink(missing_ok=True)
        link(self.path(name), self.path(to))

    @property
    def begun(self) -> bool:
        """See `Storage`."""
        return self.path(INNER).is_dir()

    def holds_other(self) -> bool:
        """See `Storage`."""
        self._new = self._new or not self.folder.exists()
        self.folder.mkdir(parents=True, exist_ok=True)
        ours = self.begun or self.exists("corpus.json")
        return not ours and any(self.folder.iterdir())

    def delete(self, names: Iterable[str]) -> None:
        """See `Storage`."""
        for name in names:
            self.path(name).unlink(missing_ok=True)

    def lengths(self, under: str = "") -> dict[str, int]:
        """See `Storage`."""
        lengths = {}
        for path in self.path(under).rglob("*"):
            with suppress(FileNotFoundError):
                if path.is_file():
                    lengths[path.relative_to(self.folder).as_posix()] = path.stat().st_size
        return lengths

    @contextmanager
    def alone(self) -> Iterator[None]:
        """See `Storage`: a lock, which the system releases when this process ends."""
        with locked_folder(self.folder, LOCK):
            remove_stale_parts([self.folder, self.folder / INNER])
            yield

    def hurry(self) -> None:
        """See `Storage`: nothing is repeated here."""

    def release(self) -> None:
        """See `Storage`."""
        self.path(LOCK).unlink(missing_ok=True)
        with suppress(OSError):  # another process that waits for the lock has made a new one
            self.path(INNER).rmdir()
            if self._new:
                self.folder.rmdir()  # where nothing has been built


# -- files of this machine ------------------------------------------------------------------------


def publish(path: Path, data: bytes) -> None:
    """Write a small file atomically, and flush it to the disk."""
    with published(path) as file:
        file.write(data)


@contextmanager
def published(path: Path) -> Iterator[Any]:
    """Open a file that appears under its name when it is complete and on the disk."""
    with explained(path, "write"), atomic_file(path) as part, part.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def sync(folder: Path) -> None:
    """Flush the names in a folder to the disk, where a folder can be opened."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def link(source: Path, target: Path) -> None:
    """Link a file under another name, or copy it where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def sha256(path: Path) -> str:
    """Return the SHA-256 checksum of a file in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(1 << 20):
            digest.update(data)
    return digest.hexdigest()
