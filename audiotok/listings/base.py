"""What a listing gives: items, each an id, the place of its audio, and what is known of it.

A listing is read lazily and always in the same order, so that a build goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np

from audiotok.audio import AudioFileError, Source, open_audio
from audiotok.decoders import AUDIO, Decoder
from audiotok.missing import needed

Split = tuple[int, int]  # part i of n
ALL: Split = (0, 1)


class ListingError(ValueError):
    """A listing that cannot be read; one line that names it and the way out."""


@dataclass(frozen=True)
class Place:
    """Where the audio of an item is: a file, a stretch of one, or its bytes."""

    name: str  # for messages, and as `source` in the row
    path: str = ""  # of a file, or a URL that fsspec knows
    start: float = 0.0  # seconds
    end: float | None = None
    channel: int | None = None  # the only one that is meant
    offset: int = 0  # bytes of the file before the audio
    size: int | None = None  # bytes of the audio; None: to the end of the file
    data: bytes | None = None  # the encoded audio itself
    command: str = ""  # a shell command that writes the audio (Kaldi)
    cut: str = ""  # a cut of Lhotse's as JSON, that lhotse itself must load


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
    """

    about: ClassVar[str] = ""
    costly: ClassVar[bool] = False

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


def is_url(path: str) -> bool:
    """Whether a path is fsspec's to open: `s3://...`, not `C:\\...`."""
    return re.match(r"[a-z][a-z0-9+.-]+://", path) is not None


def joined(base: str, path: str) -> str:
    """A path as seen from the folder or URL `base`."""
    if is_url(path) or Path(path).is_absolute():
        return path
    return f"{base.rstrip('/')}/{path}" if is_url(base) else os.path.join(base, path)  # noqa: PTH118


def parent(path: str) -> str:
    """The folder of a file or URL."""
    return path.rpartition("/")[0] if is_url(path) else str(Path(path).parent)


@contextmanager
def reading(path: str) -> Iterator[IO[bytes]]:
    """A file or URL open to read.

    Raises:
        ListingError: it cannot be opened, or the library that knows the URL is missing.
    """
    try:
        if is_url(path):
            import fsspec

            opened: Any = fsspec.open(path, "rb")
            with opened as file:
                yield file
        else:
            with Path(path).open("rb") as file:
                yield file
    except FileNotFoundError:
        raise ListingError(f"{path}: no such file; check the path") from None
    except ImportError as error:  # fsspec's line says what to install
        raise ListingError(f"{path}: {error}") from None
    except PermissionError:
        raise ListingError(f"{path}: no permission to read it; check the rights or keys") from None


def text_lines(path: str) -> Iterator[tuple[int, str]]:
    """Numbered lines of a UTF-8 file or URL, gzipped if it is called so; blank ones left out.

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
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, line.rstrip("\r\n")
        except UnicodeDecodeError:
            raise ListingError(f"{path}: not UTF-8; convert it, e.g. with iconv") from None
        except (OSError, EOFError) as error:
            raise ListingError(f"{path}: cannot be read ({error})") from None


def walk(path: str, suffixes: Iterable[str] = AUDIO) -> Iterator[str]:
    """Files below a folder or URL with one of these extensions, hidden ones left out, in order."""
    known = tuple(suffixes)
    if is_url(path):
        yield from _walk_url(path, known)
        return
    try:
        with os.scandir(path) as found:
            entries = sorted((e.name, e.is_dir()) for e in found if not e.name.startswith("."))
    except OSError as error:
        raise ListingError(f"{path}: cannot be listed ({error.strerror})") from None
    for name, is_folder in entries:
        inner = os.path.join(path, name)  # noqa: PTH118 - a Path each is slow
        if is_folder:
            yield from walk(inner, known)
        elif name.lower().endswith(known):
            yield inner


def _walk_url(path: str, suffixes: tuple[str, ...]) -> Iterator[str]:
    import fsspec

    try:
        system, root = fsspec.url_to_fs(path)
        found = system.find(root)
    except (ImportError, OSError) as error:
        raise ListingError(f"{path}: cannot be listed ({error})") from None
    scheme = path.partition("://")[0]
    for name in sorted(found):
        hidden = any(part.startswith(".") for part in name[len(root) :].split("/"))
        if name.lower().endswith(suffixes) and not hidden:
            yield name if is_url(name) else f"{scheme}://{name}"


@contextmanager
def opened(place: Place, *, commands: bool = False) -> Iterator[Source]:
    """The audio of a place, open to be read by blocks.

    Args:
        place: where it is.
        commands: whether shell commands may run; they come from whoever wrote the listing.

    Raises:
        AudioFileError: it cannot be read; the line begins with the place's name.
    """
    with ExitStack() as stack:
        if place.cut:
            yield _from_lhotse(place)
            return
        path = place.path
        whole = place.data is None and not place.command and not place.offset and not place.size
        if is_url(path) or not whole:
            path = _copied(place, stack, commands)
        try:
            source = stack.enter_context(open_audio(path, start=place.start, end=place.end))
            yield source if place.channel is None else _only(source, place)
        except AudioFileError as error:  # the same words on every machine
            raise AudioFileError(str(error).replace(path, place.name)) from None


def _only(source: Source, place: Place) -> Source:
    """One channel of a source."""
    channel = place.channel or 0
    if channel >= source.channels:
        has = f"has {source.channels} channels"
        raise AudioFileError(f"{place.name}: {has}, and number {channel + 1} is wanted")
    chunks = (np.ascontiguousarray(block[[channel]].T.numpy()) for block in source.blocks())
    return Source(Decoder(place.name, source.rate, 1, source.samples, 0, chunks), ExitStack())


def _copied(place: Place, stack: ExitStack, commands: bool) -> str:
    """The bytes of a place in a temporary file, for decoders that open by name."""
    suffix = Path(place.name.partition("?")[0]).suffix[:10]
    copy = stack.enter_context(tempfile.NamedTemporaryFile(prefix="audiotok-", suffix=suffix))  # noqa: SIM115
    if place.data is not None:
        copy.write(place.data)
    elif place.command:
        if not commands:
            raise AudioFileError(
                f"{place.name}: is made by a shell command; --commands lets the listing run them"
            )
        done = subprocess.run(
            place.command, shell=True, stdout=copy, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
        )
        if done.returncode:
            why = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            raise AudioFileError(f"{place.name}: its command failed ({' '.join(why)[:200]})")
    else:
        try:
            with reading(place.path) as file:
                file.seek(place.offset)
                if place.size is None:
                    shutil.copyfileobj(file, copy, 1 << 20)
                else:
                    copy.write(file.read(place.size))
        except ListingError as error:
            raise AudioFileError(str(error)) from None
        except OSError as error:
            raise AudioFileError(f"{place.name}: cannot be read ({error})") from None
    copy.flush()
    if not copy.tell():
        raise AudioFileError(f"{place.name}: the file is empty (0 bytes)")
    return copy.name


def _from_lhotse(place: Place) -> Source:
    """What lhotse makes of a cut that is more than a stretch of a file."""
    lhotse: Any = needed("lhotse", extra="corpus")
    try:
        cut = lhotse.serialization.deserialize_cut(json.loads(place.cut))
        samples = np.atleast_2d(cut.load_audio()).astype(np.float32)
    except Exception as error:  # lhotse raises what its readers raise
        raise AudioFileError(f"{place.name}: lhotse cannot load it ({error})") from None
    chunks = iter([np.ascontiguousarray(samples.T)])
    rate, length = int(cut.sampling_rate), samples.shape[1]
    return Source(Decoder(place.name, rate, len(samples), length, 0, chunks), ExitStack())


def digest_of(item: Item) -> bytes:
    """What an item is, in 8 bytes: builds compare them to see that a listing is still the same."""
    place = replace(item.place, data=None)
    text = repr((item.id, place, sorted(item.row.items(), key=lambda pair: pair[0])))
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()
