"""Where the audio of a recording is: a file, a stretch of one, a URL, its bytes; and opening it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from audiotok.audio import AudioFileError, Source, open_audio
from audiotok.io.decoders import Decoder
from audiotok.missing import needed


class ListingError(ValueError):
    """A listing that cannot be read; one line that names it and the way out."""

    def __init__(self, line: str) -> None:
        super().__init__(re.sub(r"[\r\n]+", " ", line))  # names in it may hold line breaks


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
    error: str = ""  # why there is no audio to open, where the listing knows it already


def is_url(path: str) -> bool:
    """Whether a path is fsspec's to open: `s3://...`, not `C:\\...`."""
    return re.match(r"[a-z][a-z0-9+.-]+://", path) is not None


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


@contextmanager
def opened(place: Place, *, commands: bool = False) -> Iterator[Source]:
    """The audio of a place, open to be read by blocks.

    Args:
        place: where it is.
        commands: whether shell commands may run; they come from whoever wrote the listing.

    Raises:
        AudioFileError: it cannot be read; the line begins with the place's name.
    """
    if place.error:
        raise AudioFileError(f"{place.name}: {place.error}")
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
        cut = lhotse.serialization.deserialize_item(json.loads(place.cut))
        samples = np.atleast_2d(cut.load_audio()).astype(np.float32)
    except Exception as error:  # lhotse raises what its readers raise
        raise AudioFileError(f"{place.name}: lhotse cannot load it ({error})") from None
    chunks = iter([np.ascontiguousarray(samples.T)])
    rate, length = int(cut.sampling_rate), samples.shape[1]
    return Source(Decoder(place.name, rate, len(samples), length, 0, chunks), ExitStack())
