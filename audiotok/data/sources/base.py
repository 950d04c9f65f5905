"""The base of all sources: lazy lists of recordings.

A listing is read lazily and always in the same order, so that an interrupted build resumes.
"""

from __future__ import annotations

import glob
import io
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from audiotok._platform.errors import InputError
from audiotok.audio import walk as files
from audiotok.audio.decoders import AUDIO
from audiotok.data.locator import AudioLocator, ListingError, is_url, listing_error, reading
from audiotok.data.recording import Recording
from audiotok.data.remote import below
from audiotok.data.remote import names_in as first_names
from audiotok.data.transient import READING_WAITS

Split = tuple[int, int]  # part i of n
ALL: Split = (0, 1)


class Listing:
    """A source of recordings; a subclass reads one kind of listing.

    Attributes:
        description: description of the kind, one line of `--help`.
        costly: whether listing reads the audio too, so that recordings are not counted beforehand.
        audio: the column, or the member of a sample, that is the audio; "" where there is only one.
        chooses: whether `audio` may be set.
    """

    description: ClassVar[str] = ""
    costly: ClassVar[bool] = False
    chooses: ClassVar[bool] = False
    audio: str = ""

    @classmethod
    def takes(cls, path: str) -> bool:
        """Return whether `path` looks like a listing of this kind."""
        raise NotImplementedError

    def items(self, path: str, part: Split = ALL) -> Iterator[Recording]:
        """Yield the recordings of part i of n, lazily, in an order that is always the same.

        Args:
            path: path or URL of the listing.
            part: the part to list, as (i, n).

        Raises:
            ListingError: it cannot be read; the message names the line where there is one.
        """
        raise NotImplementedError

    def files(self, path: str, part: Split = ALL) -> list[str]:
        """Return the container files of part i of n, in order, whose recordings are `items`.

        Whoever shares them out need not read the audio in them. The list is empty where the source
        is not made of containers, or has fewer of them than there are parts; `items` lists it then.

        Args:
            path: path or URL of the listing.
            part: the part to list, as (i, n).

        Raises:
            ListingError: the listing cannot be read, or names no file.
        """
        return []

    def items_of(self, path: str, file: str) -> Iterator[Recording]:
        """Yield the recordings of one container, in order.

        Args:
            path: path or URL of the listing.
            file: one of `files`.

        Raises:
            ListingError: it cannot be read.
        """
        raise NotImplementedError

    def absolute_items_of(self, path: str, file: str, folder: str) -> Iterator[Recording]:
        """Yield the recordings of one container, for a process in another working directory.

        They have absolute paths, and the ids, names and digests of `items_of`.

        Args:
            path: path or URL of the listing.
            file: one of `files`, as `files` returned it in the working directory `folder`.
            folder: that folder.
        """
        there = AudioLocator("", file).absolute(folder).path
        prefix = there.removesuffix(file)  # of paths that are made of the container's
        for recording in self.items_of(path, there):
            locator = recording.locator
            if prefix and locator.size is not None and locator.path.startswith(prefix):
                locator = replace(locator, listed=locator.path[len(prefix) :])
            yield replace(recording, locator=locator.absolute(folder))


class Containers(Listing):
    """A source whose audio lies in container files; a subclass lists and reads them."""

    costly = True

    def containers(self, path: str) -> list[str]:
        """Return all container files of a listing, in order."""
        raise NotImplementedError

    def files(self, path: str, part: Split = ALL) -> list[str]:
        """See `Listing.files`."""
        files, rest = by_file(self.containers(path), part)
        return files if rest == ALL else []

    def items(self, path: str, part: Split = ALL) -> Iterator[Recording]:
        """See `Listing.items`."""
        files, rest = by_file(self.containers(path), part)
        yield from every((item for file in files for item in self.items_of(path, file)), rest)


def every(items: Iterable[Any], part: Split) -> Iterator[Any]:
    """Return each n-th of the items, from the i-th on."""
    i, n = part
    return (item for number, item in enumerate(items) if number % n == i)


def by_file(files: list[str], part: Split) -> tuple[list[str], Split]:
    """Return the files of a part, and the part of their items that belongs to it.

    Whole files are shared out where there are at least n, otherwise each n-th item of all files.
    """
    i, n = part
    return (files[i::n], ALL) if len(files) >= n else (files, part)


def joined(base: str, path: str) -> str:
    """Return a path relative to the folder or URL `base`, or itself if it is absolute."""
    if is_url(path) or Path(path).is_absolute():
        return path
    return f"{base.rstrip('/')}/{path}" if is_url(base) else os.path.join(base, path)  # noqa: PTH118


def parent(path: str) -> str:
    """Return the folder of a file or URL."""
    return path.rpartition("/")[0] if is_url(path) else str(Path(path).parent)


def text_lines(path: str) -> Iterator[tuple[int, str]]:
    """Yield the numbered lines of a UTF-8 file or URL, except blank ones.

    A file whose name ends in .gz is decompressed.

    Raises:
        ListingError: it cannot be read, or is not UTF-8.
    """
    for number, line in enumerate(all_lines(path), 1):
        if line.strip():
            yield number, line.rstrip("\r\n")


def all_lines(path: str) -> Iterator[str]:
    """Yield the lines of a UTF-8 file or URL, each with its line end.

    A file whose name ends in .gz is decompressed.

    Raises:
        ListingError: it cannot be read, or is not UTF-8.
    """
    with ExitStack() as stack:
        file = stack.enter_context(reading(path))
        if path.endswith(".gz"):
            import gzip

            file = stack.enter_context(gzip.open(file))
        lines = io.TextIOWrapper(file, encoding="utf-8-sig")  # pyright: ignore[reportArgumentType]
        try:
            yield from lines
        except UnicodeDecodeError:
            if path.lower().endswith(AUDIO):
                why = "is audio, not a list of recordings; name the folder it is in"
                raise ListingError(f"{path}: {why}") from None
            raise ListingError(f"{path}: not UTF-8; convert it, e.g. with iconv") from None
        except (OSError, EOFError, zlib.error) as error:
            raise listing_error(path, error, f"{path}: cannot be read ({error})") from None


def length_of(row: Mapping[str, Any]) -> float | None:
    """Return the duration in a row (`seconds` or `duration`), in seconds, or None."""
    length = row.get("seconds", row.get("duration"))
    good = isinstance(length, int | float) and not isinstance(length, bool)
    return float(length) if good and 0 <= length < 1e9 else None


def walk(path: str, suffixes: Iterable[str] = AUDIO) -> Iterator[str]:
    """Yield the files below a folder or URL with these extensions, in order; not hidden."""
    known = tuple(suffixes)
    yield from _walk_url(path, known) if is_url(path) else files.walk(path, known, _refused)


def _refused(error: OSError) -> None:
    """Raise ListingError for a folder that cannot be listed."""
    raise ListingError(f"{error.filename}: cannot be listed ({error.strerror})")


def _walk_url(path: str, suffixes: tuple[str, ...]) -> Iterator[str]:
    """Yield the URLs of files below a URL with one of these extensions, without hidden ones."""
    start = len(path.rstrip("/"))
    try:
        for url in below(path, READING_WAITS):
            if url.lower().endswith(suffixes) and "/." not in url[start:]:
                yield url
    except (ImportError, OSError, InputError) as error:
        raise listing_error(path, error, f"{path}: cannot be listed ({error})") from None


def names_in(path: str) -> Iterator[str]:
    """Yield the names directly in a folder, or, behind a URL, the first of them.

    There are none where there is no such folder.
    """
    if not is_url(path):
        with suppress(OSError):  # said when the folder is listed
            yield from (entry.name for entry in Path(path).iterdir())
        return
    try:
        yield from first_names(path, READING_WAITS)
    except (ImportError, OSError) as error:
        raise listing_error(path, error, f"{path}: cannot be listed ({error})") from None


def files_of(path: str, suffixes: tuple[str, ...]) -> list[str]:
    """Return one file, or those of a folder, a glob or a range `part-{000..099}.tar`, in order.

    Raises:
        ListingError: there is none.
    """
    span = re.search(r"\{(\d+)\.\.(\d+)\}", path)
    if span:
        numbers = range(int(span[1]), int(span[2]) + 1)
        names = (f"{number:0{len(span[1])}d}" for number in numbers)
        return [path[: span.start()] + name + path[span.end() :] for name in names]
    magic = not is_url(path) and glob.has_magic(path)
    if path.lower().endswith(suffixes) and not magic:
        return [path]
    paths = files.glob_files(path, _refused) if magic else list(walk(path, suffixes))
    if not paths:
        raise ListingError(f"{path}: no {suffixes[0]} file there")
    return paths
