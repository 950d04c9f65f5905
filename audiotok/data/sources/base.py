"""What a listing gives: items, each an id, the place of its audio, and what is known of it.

A listing is read lazily and always in the same order, so that a build goes on where it stopped.
"""

from __future__ import annotations

import glob
import hashlib
import io
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from audiotok.audio import walk as files
from audiotok.audio.decoders import AUDIO
from audiotok.data.locator import ListingError, Place, is_url, reading

Split = tuple[int, int]  # part i of n
ALL: Split = (0, 1)


@dataclass(frozen=True)
class Item:
    """A recording to be encoded."""

    id: str
    place: Place
    row: dict[str, Any] = field(default_factory=dict)  # text, speaker, and what else is known
    seconds: float | None = None  # where the listing says it


class Listing:
    """A way to list recordings.

    Attributes:
        about: a line for `--help`.
        costly: whether listing means reading the audio too, so that nobody counts beforehand.
        audio: which column, or which member of a sample, is the audio; "" where there is but one.
        chooses: whether `audio` may be said.
    """

    about: ClassVar[str] = ""
    costly: ClassVar[bool] = False
    chooses: ClassVar[bool] = False
    audio: str = ""

    @classmethod
    def takes(cls, path: str) -> bool:
        """Whether this is the way to read what is at `path`, as far as a look tells."""
        raise NotImplementedError

    def items(self, path: str, part: Split = ALL) -> Iterator[Item]:
        """The items of part i of n, lazily, in an order that is always the same.

        Raises:
            ListingError: it cannot be read; the message names the line where there is one.
        """
        raise NotImplementedError


def every(items: Iterable[Any], part: Split) -> Iterator[Any]:
    """Each n-th of the items, from the i-th on."""
    i, n = part
    return (item for number, item in enumerate(items) if number % n == i)


def by_file(files: list[str], part: Split) -> tuple[list[str], Split]:
    """Whole files of a part where there are enough, else all of them and each n-th item."""
    i, n = part
    return (files[i::n], ALL) if len(files) >= n else (files, part)


def joined(base: str, path: str) -> str:
    """A path as seen from the folder or URL `base`."""
    if is_url(path) or Path(path).is_absolute():
        return path
    return f"{base.rstrip('/')}/{path}" if is_url(base) else os.path.join(base, path)  # noqa: PTH118


def parent(path: str) -> str:
    """The folder of a file or URL."""
    return path.rpartition("/")[0] if is_url(path) else str(Path(path).parent)


def text_lines(path: str) -> Iterator[tuple[int, str]]:
    """Numbered lines of a UTF-8 file or URL, gzipped if it is called so; blank ones left out.

    Raises:
        ListingError: it cannot be read, or is not UTF-8.
    """
    for number, line in enumerate(all_lines(path), 1):
        if line.strip():
            yield number, line.rstrip("\r\n")


def all_lines(path: str) -> Iterator[str]:
    """Lines of a UTF-8 file or URL, gzipped if it is called so, each with its end.

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
            raise ListingError(f"{path}: cannot be read ({error})") from None


def length_of(row: Mapping[str, Any]) -> float | None:
    """The seconds that a row says, if it says a number of them."""
    length = row.get("seconds", row.get("duration"))
    good = isinstance(length, int | float) and not isinstance(length, bool)
    return float(length) if good and 0 <= length < 1e9 else None


def walk(path: str, suffixes: Iterable[str] = AUDIO) -> Iterator[str]:
    """Files below a folder or URL with one of these extensions, hidden ones left out, in order."""
    known = tuple(suffixes)
    yield from _walk_url(path, known) if is_url(path) else files.walk(path, known, _refused)


def _refused(error: OSError) -> None:
    raise ListingError(f"{error.filename}: cannot be listed ({error.strerror})")


def _walk_url(path: str, suffixes: tuple[str, ...]) -> Iterator[str]:
    import fsspec

    try:
        system, root = fsspec.url_to_fs(path)
        found = system.find(root)
    except (ImportError, OSError) as error:
        raise ListingError(f"{path}: cannot be listed ({error})") from None
    root = root.rstrip("/")
    for name in sorted(found):
        inner = name[len(root) :]
        hidden = any(part.startswith(".") for part in inner.split("/"))
        if name.lower().endswith(suffixes) and not hidden:
            yield path.rstrip("/") + inner


def files_of(path: str, suffixes: tuple[str, ...]) -> list[str]:
    """One file, those of a folder, a glob, or a range as in `part-{000..099}.tar`; in order.

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
    found = files.matching(path, _refused) if magic else list(walk(path, suffixes))
    if not found:
        raise ListingError(f"{path}: no {suffixes[0]} file there")
    return found


def digest_of(item: Item) -> bytes:
    """What an item is, in 8 bytes: builds compare them to see that a listing is still the same."""
    place = replace(item.place, data=None)
    text = repr((item.id, place, sorted(item.row.items(), key=lambda pair: pair[0])))
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()
