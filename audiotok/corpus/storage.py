"""Places of a corpus's files: a folder of this machine, or object storage behind a URL of fsspec.

Both have files that are complete or not there. A folder has a lock; a bucket has none, so a build
writes who it is to an object, and ends as soon as that object names another build.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import tempfile
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from audiotok._platform.atomic import atomic_file, partial_path, remove_stale_parts
from audiotok._platform.console import one_line
from audiotok._platform.errors import Error, InputError
from audiotok._platform.lock import LockedError, locked_folder
from audiotok.data.locator import is_url
from audiotok.data.transient import is_transient
from audiotok.tokens.format import explained

INNER = ".build"  # folder of what only an unfinished build needs
LOCK, OWNER = f"{INNER}/lock", f"{INNER}/owner"
# Stores that show an object whole or not at all, as no server of files does.
STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory")
WAIT, LONGEST_WAIT = 0.5, 16.0  # seconds before the first repetition, and at most; twice as long
PATIENCE = 60.0  # seconds for which something is repeated; a library's own repetitions add to it
PART = 50 << 20  # bytes of a part of an object that s3fs sends in parts

Result = TypeVar("Result")


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
        """Whether a build has begun here, and has not removed what only it needs."""
        return bool(self.lengths(INNER))

    def read_all(self, names: Iterable[str]) -> dict[str, bytes]:
        """Return the content of those files that are there."""
        content = {}
        for name in names:
            with suppress(FileNotFoundError):
                content[name] = self.read(name)
        return content


def storage_of(place: str | Path | Storage) -> Storage:
    """Return the place that a path or a URL names.

    Raises:
        InputError: the URL is of something that cannot hold a corpus.
    """
    if isinstance(place, Storage):
        return place
    if isinstance(place, str) and is_url(place):
        local = place.removeprefix("file://")
        return Bucket(place) if local == place else Folder(Path(local))
    if url := flattened_url(place):
        raise InputError(f"{place}: write it as {url}, and as text: a Path loses a slash of it")
    return Folder(Path(place))


def folder_of(place: str | Path | Storage) -> Path:
    """Return the folder of this machine that a path names.

    Raises:
        InputError: it is a URL.
    """
    storage = storage_of(place)
    if isinstance(storage, Folder):
        return storage.folder
    raise InputError(
        f"{storage.name}: this takes a folder of this machine, not a URL; copy between the two "
        "(`aws s3 sync` for s3://)"
    )


def flattened_url(path: str | Path) -> str:
    """Return the URL of which a path was made, with its slash lost; "" if it was made of none."""
    match = re.match(r"([a-z][a-z0-9+.-]+:)/(?!/)", str(path))
    return f"{match[1]}//{str(path)[match.end() :]}" if match else ""


class Folder(Storage):
    """Folder of this machine."""

    remote = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = str(folder)

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
        self.folder.mkdir(parents=True, exist_ok=True)
        ours = self.begun or self.exists("corpus.json")
        return not ours and any(self.folder.iterdir())

    def delete(self, names: Iterable[str]) -> None:
        """See `Storage`."""
        for name in names:
            self.path(name).unlink(missing_ok=True)

    def lengths(self, under: str = "") -> dict[str, int]:
        """See `Storage`."""
        found = {}
        for path in self.path(under).rglob("*"):
            with suppress(FileNotFoundError):
                if path.is_file():
                    found[path.relative_to(self.folder).as_posix()] = path.stat().st_size
        return found

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


class Bucket(Storage):
    """Object storage behind a URL: `s3://bucket/folder`.

    What fails for a transient reason is repeated, see `PATIENCE`. Files are made, and read, in a
    temporary folder.

    Args:
        url: the URL.

    Raises:
        InputError: this kind of store cannot hold a corpus, or its library is not installed.
    """

    remote = True

    def __init__(self, url: str) -> None:
        self.name = url.rstrip("/")
        self._owner = ""  # random id of this build, once it has begun
        self._lost: Error | None = None  # why nothing is written any more
        self._hurried = threading.Event()
        self._reached = False  # whether anything has succeeded, so that the keys were good
        self._scratch: Path | None = None
        self._process = os.getpid()
        if re.search(r"[*?\[\]#]", url):
            raise InputError(f"{url}: * ? [ ] and # are no part of a corpus's URL; rename it")
        kind = url.partition("://")[0]
        if kind not in STORES:
            known = ", ".join(f"{store}://" for store in STORES[:-1])
            raise InputError(f"{url}: a corpus is in a folder or in object storage ({known})")
        try:
            import fsspec

            self.fs: Any
            self.fs, self.root = fsspec.core.url_to_fs(self.name)
        except ImportError as error:  # fsspec's line says what to install
            raise InputError(f"{url}: {error}") from None

    def __reduce__(self) -> tuple[type[Bucket], tuple[str]]:
        return Bucket, (self.name,)

    @property
    def scratch(self) -> Path:
        """Temporary folder of this process, removed when this object or the process ends."""
        if self._scratch is None or self._process != os.getpid():
            around = Path(tempfile.gettempdir())
            remove_stale_parts([around])
            self._scratch, self._process = partial_path(around / "audiotok"), os.getpid()
            (self._scratch / INNER).mkdir(parents=True)
            weakref.finalize(self, _remove_own, self._scratch, self._process)
        return self._scratch

    def path(self, name: str) -> Path:
        """See `Storage`."""
        return self.scratch / name

    def fetch(self, name: str) -> Path:
        """See `Storage`."""
        path = self.path(name)
        if not path.is_file():
            with atomic_file(path) as part:
                self._repeated(name, "read", lambda: self.fs.get_file(self._key(name), str(part)))
        return path

    def forget(self, names: Iterable[str]) -> None:
        """See `Storage`."""
        if self._scratch is not None and self._process == os.getpid():
            for name in names:
                (self._scratch / name).unlink(missing_ok=True)

    def read(self, name: str) -> bytes:
        """See `Storage`."""
        return self._repeated(name, "read", lambda: self.fs.cat_file(self._key(name)))

    def read_all(self, names: Iterable[str]) -> dict[str, bytes]:
        """See `Storage`: many at a time."""
        of = {self._key(name): name for name in names}

        def read() -> dict[str, Any]:
            found = self.fs.cat(list(of), on_error="return") if of else {}
            for each in found.values():
                if isinstance(each, Exception) and not isinstance(each, FileNotFoundError):
                    raise each
            return found

        found = self._repeated(next(iter(of.values()), ""), "read", read)
        return {of[key]: data for key, data in found.items() if isinstance(data, bytes)}

    def publish(self, name: str, data: bytes) -> None:
        """See `Storage`."""
        self._write(name, lambda: self.fs.pipe_file(self._key(name), data))

    def push(self, names: Iterable[str]) -> None:
        """See `Storage`: they are sent, compared with what was stored, and removed here."""
        for name in names:
            self._write(name, partial(self._send, name))
            self.path(name).unlink()

    def copy(self, name: str, to: str) -> None:
        """See `Storage`: the store copies it by itself."""
        self._write(to, lambda: self.fs.cp_file(self._key(name), self._key(to)))

    def delete(self, names: Iterable[str]) -> None:
        """See `Storage`."""
        names = list(names)
        if names:
            self._write(names[0], lambda: self._remove(names))

    def _remove(self, names: list[str]) -> None:
        for name in names:
            with suppress(FileNotFoundError, KeyError):  # S3 does not say that there was none
                self.fs.rm_file(self._key(name))

    def lengths(self, under: str = "") -> dict[str, int]:
        """See `Storage`."""

        def listed() -> dict[str, int]:
            self.fs.invalidate_cache()  # what other machines have written meanwhile
            found = self.fs.find(f"{self._key(under)}/" if under else self.root, detail=True)
            begin = len(self.root) + 1
            return {key[begin:]: int(facts["size"]) for key, facts in found.items()}

        try:
            return self._repeated(under, "listed", listed)
        except FileNotFoundError:  # also of a bucket that does not exist, which writing will tell
            return {}

    def holds_other(self) -> bool:
        """See `Storage`."""
        names = self.lengths()
        ours = any(name == "corpus.json" or name.startswith(f"{INNER}/") for name in names)
        return bool(names) and not ours

    @contextmanager
    def alone(self) -> Iterator[None]:
        """See `Storage`: the newest build wins, and an older one ends before its next write."""
        try:
            owner = secrets.token_hex(8)
            self.publish(OWNER, owner.encode())
            self._owner = owner
            yield
        finally:
            self._owner = ""
            if self._scratch is not None:
                _remove_own(self._scratch, self._process)
                self._scratch = None

    def hurry(self) -> None:
        """See `Storage`."""
        self._hurried.set()

    def release(self) -> None:
        """See `Storage`."""
        self.delete([OWNER])

    def _key(self, name: str) -> str:
        return f"{self.root}/{name}" if name else self.root

    def _write(self, name: str, write: Callable[[], Any]) -> None:
        """Write unless an earlier write has failed for good, or another build has begun."""
        if self._lost:
            raise self._lost
        try:
            if self._owner and self._current_owner() != self._owner:
                raise LockedError(
                    f"{self.name}: another build has taken over here (the newest goes on); "
                    "this one ends, and what it stored is used"
                )
            self._repeated(name, "written", write)
        except (StorageError, LockedError) as error:
            self._lost = error
            raise

    def _current_owner(self) -> str:
        key = self._key(OWNER)
        try:  # a range, of which no file system asks the length first
            read = partial(self.fs.cat_file, key, start=0, end=16)
            return self._repeated(OWNER, "read", read).decode("ascii", "replace")
        except FileNotFoundError:
            return ""

    def _send(self, name: str) -> None:
        path, key = self.path(name), self._key(name)
        self.fs.put_file(str(path), key)
        facts = self.fs.info(key)
        if int(facts["size"]) == path.stat().st_size:
            if str(facts.get("ETag", "")).strip('"') in _etags(path):
                return
            digest = hashlib.sha256()  # not every store's tag is a checksum of the content
            with self.fs.open(key, "rb") as stored:
                while data := stored.read(1 << 22):
                    digest.update(data)
            if digest.hexdigest() == sha256(path):
                return
        raise ConnectionError("what is stored is not what was sent")  # is sent again

    def _repeated(self, name: str, done: str, work: Callable[[], Result]) -> Result:
        """Return the result of some work, repeated while it fails for transient reasons.

        Raises:
            FileNotFoundError: there is no such object.
            StorageError: the work has failed for another reason, or too often.
        """
        begun = time.monotonic()
        wait = WAIT
        while True:
            try:
                result = work()
                self._reached = True
                return result
            except FileNotFoundError as error:
                if done == "written":  # there is no such bucket
                    raise StorageError(f"{self.name}: {_why(error)}; check the URL") from error
                raise
            except Exception as error:
                refused = isinstance(error, PermissionError) and not self._reached
                passing = is_transient(error, remote=True) and not refused
                over = time.monotonic() > begun + PATIENCE or self._hurried.is_set()
                if over or not passing:
                    raise self._error(name, done, error, passing, begun) from error
            self._hurried.wait(wait)
            wait = min(2 * wait, LONGEST_WAIT)

    def _error(
        self, name: str, done: str, error: Exception, passing: bool, begun: float
    ) -> StorageError:
        where = f"{self.name}/{name}" if name else self.name
        tried = f", tried for {time.monotonic() - begun:.0f} s" if passing else ""
        keys = isinstance(error, PermissionError)
        way = "check keys and rights, and run the same again" if keys else "run the same again"
        return StorageError(
            f"{where}: cannot be {done} ({_why(error)}{tried}); {way}: what is stored is kept"
        )


def _why(error: Exception) -> str:
    return one_line(error)[:200] or type(error).__name__


def _remove_own(folder: Path, process: int) -> None:
    """Remove the temporary folder of a process, unless this is a fork of it."""
    if process == os.getpid():
        shutil.rmtree(folder, ignore_errors=True)


def _etags(path: Path) -> list[str]:
    """Return the tags that an S3 server may give a file, sent whole or in parts of `PART` bytes."""
    whole, parts = hashlib.md5(usedforsecurity=False), []
    with path.open("rb") as file:
        while data := file.read(PART):
            whole.update(data)
            parts.append(hashlib.md5(data, usedforsecurity=False).digest())
    joined = hashlib.md5(b"".join(parts), usedforsecurity=False).hexdigest()
    return [whole.hexdigest(), f"{joined}-{len(parts)}"]


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
