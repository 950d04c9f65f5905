"""Object storage behind a URL of fsspec, as a place of a corpus's files."""

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
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from audiotok._platform.atomic import atomic_file, partial_path, remove_stale_parts
from audiotok._platform.console import one_line
from audiotok._platform.errors import Error, InputError
from audiotok._platform.lock import LockedError
from audiotok.corpus.storage import INNER, OWNER, Storage, StorageError, sha256
from audiotok.data.transient import is_transient

# Stores that show an object whole or not at all, as no server of files does.
STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory")
WAIT, LONGEST_WAIT = 0.5, 16.0  # seconds before the first repetition, and at most; twice as long
PATIENCE = 60.0  # seconds for which something is repeated; a library's own repetitions add to it
PART = 50 << 20  # bytes of a part of an object that s3fs sends in parts

Result = TypeVar("Result")


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
            self._scratch = partial_path(around / "audiotok")
            self._process = os.getpid()
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
            objects = self.fs.cat(list(of), on_error="return") if of else {}
            for each in objects.values():
                if isinstance(each, Exception) and not isinstance(each, FileNotFoundError):
                    raise each
            return objects

        objects = self._repeated(next(iter(of.values()), ""), "read", read)
        return {of[key]: data for key, data in objects.items() if isinstance(data, bytes)}

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
            objects = self.fs.find(f"{self._key(under)}/" if under else self.root, detail=True)
            begin = len(self.root) + 1
            return {key[begin:]: int(facts["size"]) for key, facts in objects.items()}

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
