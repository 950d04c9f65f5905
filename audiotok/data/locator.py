"""Locators of audio (a file, a part of one, a URL, bytes in memory) and how to open them."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from audiotok._platform.console import plain
from audiotok._platform.errors import Error, InputError
from audiotok._platform.jsonfile import parse
from audiotok._platform.optional import optional_import
from audiotok.audio.base import is_utf8
from audiotok.audio.decoders import AudioFileError, Decoder
from audiotok.audio.reader import Source, open_audio
from audiotok.data.commands import COPY, CommandError, run, run_once, withheld
from audiotok.data.remote import open_url
from audiotok.data.transient import READING_WAITS, TransientError, is_transient, passing

LONGEST = 1e9  # longest duration of a recording, seconds (31 years)
OVERSHOOT = 0.5  # seconds by which a part may end after its file does, as Kaldi allows
SOURCES = ("file", "url", "memory", "shar")  # types of lhotse's sources that run no command


class ListingError(Error, ValueError):
    """A listing that cannot be read; the message is one line with its name and a remedy."""

    def __init__(self, message: str) -> None:
        # Text quoted from a listing may hold Unicode line breaks and terminal control codes.
        super().__init__(plain(message))


@dataclass(frozen=True)
class AudioLocator:
    """A locator of a recording's audio: a file, a part of one, a URL, bytes, or a command.

    Attributes:
        name: name of the recording in messages, and the `source` of its row in a corpus.
        path: path of a file, or a URL that fsspec knows.
        start: start of the part that is meant, seconds.
        end: end of the part, seconds; None for the end of the file.
        channel: index of the only channel that is meant; None for all channels.
        offset: bytes of the file before the audio.
        size: bytes of the audio; None for all up to the end of the file.
        data: the encoded audio itself.
        command: a shell command that writes the audio (Kaldi).
        cut: a cut of Lhotse as JSON, which only lhotse can load.
        overshoot: seconds by which `end` may lie beyond the end of the file, which is then meant.
        error: reason why there is no audio to open, where the listing already shows it.
        copy: path of a file with the bytes that are meant, made by `stored`.
        permitted: whether the command may run: the user said so.
        listed: the path, command or cut as the listing has it, where `absolute` has changed it.
    """

    name: str
    path: str = ""
    start: float = 0.0
    end: float | None = None
    channel: int | None = None
    offset: int = 0
    size: int | None = None
    data: bytes | None = None
    command: str = ""
    cut: str = ""
    overshoot: float = field(default=OVERSHOOT, repr=False)
    error: str = ""
    copy: str = field(default="", repr=False)
    permitted: bool = field(default=False, repr=False)
    listed: str = field(default="", repr=False)

    def __post_init__(self):
        """Raise ValueError unless the part and the channel are possible ones."""
        end = LONGEST if self.end is None else self.end
        if not 0 <= self.start < end <= LONGEST:
            raise InputError(f"cannot cut from {self.start} s to {self.end} s")
        if self.channel is not None and self.channel < 0:
            raise InputError(f"channel {self.channel}: channels are counted from 0")

    @property
    def stretch(self) -> tuple[float, float | None, int | None] | None:
        """Start, end and channel; None where all of the audio is meant."""
        stretch = (self.start, self.end, self.channel)
        return None if stretch == (0, None, None) else stretch

    @property
    def local(self) -> str:
        """Path of the file of this machine that holds the audio; "" where none does."""
        return self.copy or ("" if is_url(self.path) else self.path)

    @property
    def is_file(self) -> bool:
        """True if the audio is a whole file of this machine, or a stretch of one."""
        plain = self.data is None and not self.offset and self.size is None
        return plain and bool(self.path) and not is_url(self.path)

    def absolute(self, folder: str = "") -> AudioLocator:
        """Return the locator that means the same audio in every working directory.

        A relative path becomes an absolute one, in a cut of Lhotse too, and a command begins by
        changing to the folder. The name stays, and `as_listed` returns the locator as it was.

        Args:
            folder: the folder that relative paths start from; the working directory if empty.
        """
        for name, absolute in _ABSOLUTE.items():
            value = getattr(self, name)
            if value and not self.listed and (changed := absolute(value, folder)) != value:
                return replace(self, **{name: changed, "listed": value})
        return self

    def as_listed(self) -> AudioLocator:
        """Return the locator as the listing has it, before `absolute`."""
        changed = next((name for name in _ABSOLUTE if getattr(self, name)), "")
        return replace(self, **{changed: self.listed, "listed": ""}) if self.listed else self


def is_url(path: str) -> bool:
    """Return whether a path is a URL for fsspec: `s3://...` is one, `C:\\...` is not."""
    return re.match(r"[a-z][a-z0-9+.-]+://", path) is not None


def normal_path(path: str) -> str:
    """Return one spelling of a listing's path or URL: `recordings`, of `./recordings/` too."""
    if is_url(path) or re.match(r"[a-z]{2,}:", path):  # hf:NAME is no path
        return path.rstrip("/")
    return os.path.normpath(path)


def absolute_path(listing: str, folder: str = "") -> str:
    """Return the path or URL of a listing as it is in every working directory.

    Args:
        listing: the path; a URL stays as it is, and so does a dataset of a hub (`hf:NAME`).
        folder: the folder that a relative path starts from; the working directory if empty.
    """
    kind = re.match(r"[a-z]{2,}:", listing)
    if kind is None:
        return _absolute_file(normal_path(listing), folder)
    inside = _absolute_file(listing[kind.end() :], folder)
    is_folder = not is_url(listing) and Path(re.split("[:@]", inside)[0]).is_dir()
    return kind[0] + inside if is_folder else listing


def _absolute_file(path: str, folder: str) -> str:
    """Return the absolute path of a file; a URL and `-` as they are."""
    return path if path == "-" or is_url(path) else os.path.join(folder or Path.cwd(), path)  # noqa: PTH118


def _absolute_command(command: str, folder: str) -> str:
    """Return a shell command that changes to the folder before anything else."""
    return f"cd {shlex.quote(folder or str(Path.cwd()))} || exit\n{command}"


def _absolute_cut(cut: str, folder: str) -> str:
    """Return the JSON of a cut in which the sources of all recordings are absolute."""
    value = parse(cut, "a cut")
    for each in sources_of(value):
        path, kind = str(each["source"]), each.get("type")
        if kind == "command":
            each["source"] = _absolute_command(path, folder)
        elif path.startswith("pipe:"):
            each["source"] = "pipe:" + _absolute_command(path.removeprefix("pipe:"), folder)
        elif kind == "file":
            each["source"] = _absolute_file(path, folder)
    return cut if value == parse(cut, "a cut") else json.dumps(value, ensure_ascii=False)


# Where audio may be, each with the function that makes it absolute.
_ABSOLUTE = {"path": _absolute_file, "command": _absolute_command, "cut": _absolute_cut}


@contextmanager
def reading(path: str, waits: Sequence[float] = READING_WAITS) -> Iterator[IO[bytes]]:
    """Open a file or URL for reading bytes, as a context manager.

    Args:
        path: the path or URL.
        waits: seconds before each retry, where a URL cannot be read for a transient reason.

    Raises:
        ListingError: it cannot be opened, or the library that knows the URL is missing.
        TransientError: the URL cannot be read for now.
    """
    try:
        if is_url(path):
            with open_url(path, waits) as file:
                yield file
        else:
            with Path(path).open("rb") as file:
                yield file
    except FileNotFoundError:
        raise ListingError(f"{path}: no such file; check the path") from None
    except ImportError as error:  # fsspec's line says what to install
        raise ListingError(f"{path}: {error}") from None
    except PermissionError:
        raise ListingError(f"{path}: no permission to read it; check its rights") from None


def listing_error(path: str, error: Exception, otherwise: str) -> Error:
    """Return the error of a listing that cannot be read: a transient one, or a ListingError.

    Args:
        path: path or URL of the file.
        error: the error that reading it raised.
        otherwise: message of the ListingError.
    """
    remote = is_url(path)
    if is_transient(error, remote=remote):
        return passing(path, error, remote=remote)
    return ListingError(otherwise)


@contextmanager
def opened(
    locator: AudioLocator,
    *,
    commands: bool = False,
    scratch: str = "",
    waits: Sequence[float] = (),
) -> Iterator[Source]:
    """Open the audio of a recording for reading by blocks, as a context manager.

    Args:
        locator: locator of the audio.
        commands: whether shell commands may run; they come from whoever wrote the listing.
        scratch: folder of the caller's for temporary copies and for the output of commands, each
            of which runs once for all parts of a recording; with "" it runs for each.
        waits: seconds before each retry, where a URL cannot be read for a transient reason.

    Raises:
        AudioFileError: it cannot be read; the message begins with the recording's name.
        TransientError: a URL cannot be read for now.
    """
    if locator.error:
        raise AudioFileError(f"{locator.name}: {locator.error}")
    with ExitStack() as stack:
        if locator.cut:
            yield _from_lhotse(locator, commands or locator.permitted)
            return
        path = locator.copy or locator.path
        if path == "-":
            raise AudioFileError(f"{locator.name}: no listing can read stdin; name a file")
        if not (locator.copy or locator.is_file):
            # A worker on another machine has no such folder.
            end, folder = suffix_of(locator), scratch if Path(scratch or "?").is_dir() else None
            copy = tempfile.NamedTemporaryFile(prefix=COPY, suffix=end, dir=folder)  # noqa: SIM115
            stack.enter_context(copy)
            copy_audio(locator, copy, commands=commands, scratch=scratch, waits=waits)
            path = copy.name
        if not is_utf8(path):
            raise AudioFileError(f"{locator.name}: the name is not UTF-8; rename it")
        try:
            source = stack.enter_context(
                open_audio(path, start=locator.start, end=locator.end, overshoot=locator.overshoot)
            )
            yield source if locator.channel is None else _one_channel(source, locator)
        except AudioFileError as error:  # temporary paths would differ from machine to machine
            raise AudioFileError(str(error).replace(path, locator.name)) from None


def _one_channel(source: Source, locator: AudioLocator) -> Source:
    """Return the channel of a source that a locator names."""
    channel = locator.channel or 0
    if channel >= source.channels:
        raise AudioFileError(
            f"{locator.name}: has {source.channels} channels, and number {channel + 1} is wanted"
        )
    chunks = (np.ascontiguousarray(block[[channel]].T) for block in source.arrays())
    return Source(Decoder(locator.name, source.rate, 1, source.samples, 0, chunks), ExitStack())


def suffix_of(locator: AudioLocator) -> str:
    """Return the extension that a file with the bytes of a recording has, by which some decode."""
    return Path(locator.name.partition("?")[0]).suffix[:10]


def copy_audio(
    locator: AudioLocator,
    copy: Any,
    *,
    commands: bool = False,
    scratch: str = "",
    waits: Sequence[float] = (),
) -> None:
    """Copy the encoded audio of a recording to a file, for decoders that open by name.

    Args:
        locator: locator of the audio.
        copy: a named file open for writing bytes.
        commands: as for `opened`.
        scratch: as for `opened`.
        waits: as for `opened`.

    Raises:
        AudioFileError: it cannot be read, or is empty.
        TransientError: a URL cannot be read for now.
    """
    if locator.data is not None:
        copy.write(locator.data)
    elif locator.command:
        allowed = commands or locator.permitted
        if locator.stretch is not None and Path(scratch or "?").is_dir():
            run_once(locator.command, copy.name, locator.name, Path(scratch), allowed=allowed)
        else:
            run(locator.command, copy, locator.name, allowed=allowed)
    else:
        try:
            with reading(locator.path, waits) as file:
                file.seek(locator.offset)
                if locator.size is None:
                    shutil.copyfileobj(file, copy, 1 << 20)
                else:
                    copy.write(file.read(locator.size))
                _check_length(locator, getattr(file, "raw", None), copy.tell())
        except ListingError as error:
            raise AudioFileError(str(error)) from None
        except TransientError:
            raise
        except OSError as error:
            raise AudioFileError(f"{locator.name}: cannot be read ({error})") from None
    copy.flush()
    if not Path(copy.name).stat().st_size:
        raise AudioFileError(f"{locator.name}: the file is empty (0 bytes)")


def _check_length(locator: AudioLocator, file: Any, received: int) -> None:
    """Raise TransientError where a connection ended before all expected bytes were received."""
    expected, length = locator.size, getattr(file, "size", None)
    if expected is None and isinstance(length, int):
        expected = length - locator.offset
    if is_url(locator.path) and expected is not None and received < expected:
        raise TransientError(f"only {received:,} of {expected:,} bytes came")


def _from_lhotse(locator: AudioLocator, commands: bool) -> Source:
    """Load a cut by lhotse: one that is more than a part of a single file."""
    cut = parse(locator.cut, locator.name)
    if not commands and _has_command(cut):
        raise CommandError(locator.name)
    lhotse: Any = optional_import("lhotse", extra="corpus")
    try:
        with withheld(locator.name, allowed=commands):
            cut = lhotse.serialization.deserialize_item(cut)
            samples = np.atleast_2d(cut.load_audio()).astype(np.float32)
    except CommandError:
        raise
    except Exception as error:  # lhotse passes on any exception of its readers
        why = as_listed(" ".join(str(error).split()), locator)[:300]
        raise AudioFileError(f"{locator.name}: lhotse cannot load it ({why})") from None
    chunks = iter([np.ascontiguousarray(samples.T)])
    rate, length = int(cut.sampling_rate), samples.shape[1]
    return Source(Decoder(locator.name, rate, len(samples), length, 0, chunks), ExitStack())


def _has_command(cut: Any) -> bool:
    """Return whether a source in a cut, at any depth, is or may be a shell command."""
    for each in sources_of(cut):
        if "channels" in each and each.get("type") not in SOURCES:
            return True
        if isinstance(each["source"], str) and each["source"].startswith("pipe:"):
            return True
    return False


def sources_of(cut: Any) -> Iterator[dict[str, Any]]:
    """Yield the objects in a cut, at any depth, that have a `source`."""
    pending = [cut]
    while pending:
        each = pending.pop()
        if isinstance(each, dict):
            if each.get("source") is not None:
                yield each
            pending.extend(each.values())
        elif isinstance(each, list):
            pending.extend(each)


def as_listed(text: str, locator: AudioLocator) -> str:
    """Return a message with the paths of a locator as the listing has them."""
    listed = locator.as_listed()
    if locator.cut:
        both = (sources_of(parse(each.cut, each.name)) for each in (locator, listed))
        pairs = [(now["source"], before["source"]) for now, before in zip(*both, strict=True)]
    else:
        pairs = [(locator.path, listed.path)]
    for now, before in pairs:
        if now != before:
            text = text.replace(str(now), str(before))
    return text
