"""Where the audio of a recording is: a file, a stretch of one, a URL, its bytes; and opening it."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from audiotok._platform.console import one_line, plain
from audiotok._platform.jsonfile import parse
from audiotok._platform.optional import needed
from audiotok.audio.audio import AudioFileError, Source, open_audio
from audiotok.audio.decoders import Decoder
from audiotok.data.commands import CommandError, run, run_once, withheld
from audiotok.data.passing import PassingError, passes

LONGEST = 1e9  # seconds that any recording lasts, 31 years
OVERSHOOT = 0.5  # seconds by which a stretch may end after its file does, as Kaldi has it
SOURCES = ("file", "url", "memory", "shar")  # kinds of lhotse's that run nothing


class ListingError(ValueError):
    """A listing that cannot be read; one line that names it and the way out."""

    def __init__(self, message: str) -> None:
        # What is quoted of a listing may hold line breaks of Unicode, and what terminals obey.
        super().__init__(plain(message))


@dataclass(frozen=True)
class Place:
    """Where the audio of an item is: a file, a stretch of one, or its bytes."""

    name: str  # for messages, and as `source` in the row
    path: str = ""  # of a file, or a URL that fsspec knows
    start: float = 0.0  # seconds
    end: float | None = None  # up to `overshoot` past the end of the file, it is that end
    channel: int | None = None  # the only one that is meant
    offset: int = 0  # bytes of the file before the audio
    size: int | None = None  # bytes of the audio; None: to the end of the file
    data: bytes | None = None  # the encoded audio itself
    command: str = ""  # a shell command that writes the audio (Kaldi)
    cut: str = ""  # a cut of Lhotse's as JSON, that lhotse itself must load
    overshoot: float = field(default=OVERSHOOT, repr=False)  # seconds; lhotse has another
    error: str = ""  # why there is no audio to open, where the listing knows it already

    def __post_init__(self):
        """Raise ValueError unless it is a stretch and a channel that a file can have."""
        end = LONGEST if self.end is None else self.end
        if not 0 <= self.start < end <= LONGEST:
            raise ValueError(f"cannot cut from {self.start} s to {self.end} s")
        if self.channel is not None and self.channel < 0:
            raise ValueError(f"channel {self.channel}: channels are counted from 0")


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
def opened(place: Place, *, commands: bool = False, scratch: str = "") -> Iterator[Source]:
    """The audio of a place, open to be read by blocks.

    Args:
        place: where it is.
        commands: whether shell commands may run; they come from whoever wrote the listing.
        scratch: a folder where the output of a command is kept, which so runs once for all
            stretches of a recording; "" runs it for each.

    Raises:
        AudioFileError: it cannot be read; the line begins with the place's name.
    """
    if place.error:
        raise AudioFileError(f"{place.name}: {place.error}")
    with ExitStack() as stack:
        if place.cut:
            yield _from_lhotse(place, commands)
            return
        path = place.path
        if path == "-":
            raise AudioFileError(f"{place.name}: no listing can read stdin; name a file")
        whole = place.data is None and not place.command and not place.offset and not place.size
        if is_url(path) or not whole:
            path = _copied(place, stack, commands, scratch)
        try:
            source = stack.enter_context(
                open_audio(path, start=place.start, end=place.end, overshoot=place.overshoot)
            )
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


def _copied(place: Place, stack: ExitStack, commands: bool, scratch: str) -> str:
    """The bytes of a place in a temporary file, for decoders that open by name."""
    suffix = Path(place.name.partition("?")[0]).suffix[:10]
    copy = stack.enter_context(tempfile.NamedTemporaryFile(prefix="audiotok-", suffix=suffix))  # noqa: SIM115
    if place.data is not None:
        copy.write(place.data)
    elif place.command:
        part = place.start or place.end is not None or place.channel is not None
        if part and Path(scratch or "?").is_dir():  # a worker elsewhere has no such folder
            run_once(place.command, copy.name, place.name, Path(scratch), allowed=commands)
        else:
            run(place.command, copy, place.name, allowed=commands)
    else:
        try:
            with reading(place.path) as file:
                file.seek(place.offset)
                if place.size is None:
                    shutil.copyfileobj(file, copy, 1 << 20)
                else:
                    copy.write(file.read(place.size))
                _check_all_came(place, getattr(file, "size", None), copy.tell())
        except ListingError as error:
            raise AudioFileError(str(error)) from None
        except OSError as error:
            raise AudioFileError(f"{place.name}: cannot be read ({error})") from None
    copy.flush()
    if not Path(copy.name).stat().st_size:
        raise AudioFileError(f"{place.name}: the file is empty (0 bytes)")
    return copy.name


def _check_all_came(place: Place, length: Any, came: int) -> None:
    """Raises PassingError where a connection ended before the bytes that were promised."""
    expected = place.size
    if expected is None and isinstance(length, int):
        expected = length - place.offset
    if is_url(place.path) and expected is not None and came < expected:
        raise PassingError(f"only {came:,} of {expected:,} bytes came")


def _from_lhotse(place: Place, commands: bool) -> Source:
    """What lhotse makes of a cut that is more than a stretch of a file."""
    cut = parse(place.cut, place.name)
    if not commands and _has_command(cut):
        raise CommandError(place.name)
    lhotse: Any = needed("lhotse", extra="corpus")
    try:
        with withheld(place.name, allowed=commands):
            cut = lhotse.serialization.deserialize_item(cut)
            samples = np.atleast_2d(cut.load_audio()).astype(np.float32)
    except CommandError:
        raise
    except Exception as error:  # lhotse raises what its readers raise
        why = " ".join(str(error).split())[:300]
        raise AudioFileError(f"{place.name}: lhotse cannot load it ({why})") from None
    chunks = iter([np.ascontiguousarray(samples.T)])
    rate, length = int(cut.sampling_rate), samples.shape[1]
    return Source(Decoder(place.name, rate, len(samples), length, 0, chunks), ExitStack())


def _has_command(cut: Any) -> bool:
    """Return whether a source of a cut, however deep in it, is a command, or might be one."""
    waiting = [cut]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            source = each.get("source")
            if "channels" in each and source is not None and each.get("type") not in SOURCES:
                return True
            if isinstance(source, str) and source.startswith("pipe:"):
                return True
            waiting.extend(each.values())
        elif isinstance(each, list):
            waiting.extend(each)
    return False


def may_pass(error: Exception, place: Place) -> bool:
    """Return whether a recording may well be read if it is tried again.

    What decodes a file calls it damaged where the disk would not give it, so that is asked.
    """
    path = place.path
    if passes(error, remote=is_url(path)):
        return True
    if not path or is_url(path):
        return False
    try:
        with Path(path).open("rb") as file:
            while file.read(1 << 20):
                pass
    except OSError as refused:
        return passes(refused)
    return False


def reason(error: Exception, place: Place) -> str:
    """Say why a recording has no codes, in one line, the same on every machine."""
    text = one_line(error)
    if isinstance(error, MemoryError):
        text = "not enough memory"
    elif not isinstance(error, (ValueError, OSError, ImportError)):
        text = f"{type(error).__name__}: {text[:300]}"
    return text.removeprefix(f"{place.name}: ")
