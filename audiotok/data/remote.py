"""Files behind URLs: connected to with time-outs, read on after a break, listed page by page.

fsspec and the libraries beneath it open the URLs; their settings (`FSSPEC_S3`, a file in
`~/.config/fsspec`, `AWS_ENDPOINT_URL` ...) are the user's and win over those that are made here.
"""

from __future__ import annotations

import io
import os
import posixpath
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import import_module
from typing import Any, TypeVar

from audiotok._platform.errors import InputError
from audiotok.data.transient import MissingError, is_refusal, is_transient, patiently, pause

PATIENCE = "AUDIOTOK_PATIENCE"  # environment variable: seconds without a byte that are waited
SECONDS = 60.0  # its default
TRIES = 5  # of s3fs, for each read
LATE = (0.5,)  # seconds before a missing object is looked for again
MEMORY = 1 << 16  # bytes of a buffer before fsspec's own
PAGE = 1000  # names in a page of a listing, as S3 has it
SERVERS = {"http", "https", "memory"}  # a file is missing there if the server says so
BUCKETS = {"abfs", "az", "gcs", "gs", "oci", "oss"}  # folders are only in the names of objects

Result = TypeVar("Result")


def file_system(url: str) -> tuple[Any, str]:
    """Return fsspec's file system of a URL, which gives up a stalled connection, and the path.

    Raises:
        ImportError: the library that knows the URL is missing; fsspec's line says which.
    """
    import fsspec
    from fsspec.config import conf

    known = {"s3": _for_s3, "s3a": _for_s3, "http": _for_http, "https": _for_http}
    options = {
        name: setting(conf.get(name, {})) for name, setting in known.items() if f"{name}://" in url
    }
    return fsspec.url_to_fs(url, **options)


def _patience() -> float:
    """Return the seconds without a byte after which a connection is given up."""
    text = os.environ.get(PATIENCE) or str(SECONDS)
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 1e6:
        raise InputError(f"{PATIENCE}={text}: not a number of seconds above 0")
    return seconds


def _for_s3(settings: dict[str, Any]) -> dict[str, Any]:
    """Return options of s3fs, which tries each read some times: each gets a share of the time."""
    seconds = _patience() / TRIES
    times = {"connect_timeout": seconds, "read_timeout": seconds}
    given = settings.get("config_kwargs", {})
    return {"use_listings_cache": False, "config_kwargs": {**times, **given}}


def _for_http(settings: dict[str, Any]) -> dict[str, Any]:
    """Return options of fsspec's HTTP file system; aiohttp's own end every download after 300 s."""
    try:
        aiohttp: Any = import_module("aiohttp")
    except ImportError:  # fsspec says that it is missing
        return {}
    times = aiohttp.ClientTimeout(total=None, sock_connect=_patience(), sock_read=_patience())
    return {"client_kwargs": {"timeout": times, **settings.get("client_kwargs", {})}}


# ---- reading


def open_url(url: str, waits: Sequence[float] = ()) -> io.BufferedReader:
    """Open a URL for reading bytes; reading goes on where it was after a transient failure.

    Args:
        url: a URL that fsspec knows.
        waits: seconds before each retry, of opening and of each read.

    Raises:
        TransientError: it cannot be read for now.
        FileNotFoundError: it is not there, although its bucket or server answers.
    """
    return io.BufferedReader(_Remote(url, tuple(waits)), MEMORY)


class _Remote(io.RawIOBase):
    """A file behind a URL.

    Attributes:
        name: the URL.
        mode: "rb".
        size: bytes of the file; None if the server does not say.
    """

    mode = "rb"

    def __init__(self, url: str, waits: tuple[float, ...]) -> None:
        self.name = url
        self.waits = waits
        self._at = 0
        self._file = self._patiently(self._opened)
        self.size: int | None = getattr(self._file, "size", None)

    def _patiently(self, work: Callable[[], Result]) -> Result:
        return patiently(work, self.waits, self.name, remote=True)

    def _opened(self) -> Any:
        for wait in LATE:
            try:
                return _open(self.name)
            except FileNotFoundError as error:
                if is_transient(error, remote=True):
                    raise
            pause(wait)
        try:
            return _open(self.name)
        except FileNotFoundError as error:
            if is_transient(error, remote=True) or bucket_answers(self.name):
                raise
        raise MissingError(f"{self.name}: cannot be seen from here, nor the bucket it should be in")

    def _reopen(self) -> None:
        """Open the file once more, at the same position."""
        self._file.close()
        self._file = self._opened()
        size = getattr(self._file, "size", None)
        if size != self.size:
            change = f"changed from {self.size} to {size} bytes while it was read"
            raise InputError(f"{self.name}: {change}; read it again")
        try:
            self._file.seek(self._at)
        except (OSError, ValueError):  # a server that only sends whole files
            left = self._at
            while left and (skipped := len(self._file.read(min(left, 1 << 20)))):
                left -= skipped

    def readinto(self, buffer: Any, /) -> int:
        """Read some bytes into a buffer and return their number; 0 at the end."""
        broken = False

        def read() -> bytes:
            nonlocal broken
            if broken:
                self._reopen()
            broken = True
            data = self._file.read(len(buffer))
            broken = False
            return data

        data = self._patiently(read)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a position and return it."""
        self._at = self._file.seek(offset, whence)
        return self._at

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return whether positions other than the next can be gone to."""
        return self._file.seekable()

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._at

    def close(self) -> None:
        """Close the file; a file that was never opened too."""
        if not self.closed and "_file" in vars(self):
            self._file.close()
        super().close()


def _open(url: str) -> Any:
    """Return fsspec's file."""
    system, path = file_system(url)
    return _renewing(system, lambda: system.open(path, "rb"))


def _renewing(system: Any, work: Callable[[], Result]) -> Result:
    """Return the result of a request; when it is refused, read the keys anew for the next one."""
    try:
        return work()
    except Exception as error:
        if _is_s3(system) and is_refusal(error):
            system.connect(refresh=True)
        raise


def bucket_answers(url: str) -> bool:
    """Return whether the bucket, or else the folder, of a file that is missing can be seen."""
    system, path = file_system(url)
    bucket = path.partition("/")[0]
    try:
        if _is_s3(system):
            system.call_s3("list_objects_v2", Bucket=bucket, MaxKeys=1)
        elif not SERVERS & _protocols(system):
            return system.exists(
                bucket if BUCKETS & _protocols(system) else posixpath.dirname(path)
            )
    except PermissionError:  # by one that is there
        return True
    except Exception:  # of any library: a missing bucket, or no connection
        return False
    return True


def _protocols(system: Any) -> set[str]:
    """Return the protocols of a file system."""
    return {system.protocol} if isinstance(system.protocol, str) else {*system.protocol}


def _is_s3(system: Any) -> bool:
    """Return whether a file system is s3fs."""
    return "s3" in _protocols(system)


# ---- listing


def below(url: str, waits: Sequence[float] = ()) -> Iterator[str]:
    """Yield the URLs of all files below a URL, in the order of their names.

    Objects of S3 come page by page, so that memory does not grow with their number.

    Args:
        url: URL of a folder.
        waits: seconds before each retry.

    Raises:
        TransientError: it cannot be listed for now.
    """
    system, root = patiently(lambda: file_system(url), waits, url, remote=True)
    root = root.rstrip("/")
    if _is_s3(system):
        names = _s3_keys(system, root, url, waits)
    else:
        names = sorted(patiently(lambda: system.find(root), waits, url, remote=True))
    for name in names:
        yield url.rstrip("/") + name[len(root) :]


def names_in(url: str, waits: Sequence[float] = ()) -> list[str]:
    """Return the names directly below a URL: in S3, those of the first page.

    Args:
        url: URL of a folder; the list is empty if there is none.
        waits: seconds before each retry.

    Raises:
        TransientError: it cannot be listed for now.
    """
    system, root = patiently(lambda: file_system(url), waits, url, remote=True)
    root = root.rstrip("/")
    try:
        if _is_s3(system):
            page = next(_s3_pages(system, root, url, waits, delimiter="/"))
            paths = [each["Key"] for each in page.get("Contents", [])]
            paths += [each["Prefix"] for each in page.get("CommonPrefixes", [])]
        else:
            paths = patiently(lambda: system.ls(root, detail=False), waits, url, remote=True)
    except FileNotFoundError:
        return []
    return [posixpath.basename(path.rstrip("/")) for path in paths]


def _s3_keys(system: Any, root: str, url: str, waits: Sequence[float]) -> Iterator[str]:
    """Yield `bucket/key` of all objects below a path."""
    bucket, last = root.partition("/")[0], ""
    for page in _s3_pages(system, root, url, waits):
        for each in page.get("Contents", []):
            key = each["Key"]
            if key < last:
                raise InputError(
                    f"{url}: the server lists `{key}` after `{last}`, in no order that could be "
                    "resumed; write a manifest of the files"
                )
            last = key
            yield f"{bucket}/{key}"


def _s3_pages(
    system: Any, root: str, url: str, waits: Sequence[float], *, delimiter: str = ""
) -> Iterator[dict[str, Any]]:
    """Yield the pages of a listing of objects."""
    bucket, _, prefix = root.partition("/")
    start = f"{prefix}/" if prefix else ""
    options = {"Bucket": bucket, "Prefix": start, "Delimiter": delimiter, "MaxKeys": PAGE}
    while True:
        request = partial(system.call_s3, "list_objects_v2", **options)
        page = patiently(partial(_renewing, system, request), waits, url, remote=True)
        yield page
        if not page.get("IsTruncated"):
            return
        options["ContinuationToken"] = page["NextContinuationToken"]
