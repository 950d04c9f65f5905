"""Frames of one recording, be they codes or latents: cut, joined, and kept in files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from audiotok._platform.errors import InputError
from audiotok.tokens import (
    DamageReport,
    Header,
    TokenFileDamagedError,
    TokenFileError,
    TokenReader,
    TokenWriter,
    frame_range,
    salvage,
    verify,
)
from audiotok.tokens.errors import KINDS

C = TypeVar("C", bound="Coded")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Coded:
    """Frames of one recording, with what is needed to store, cut and decode them.

    `channels` counts the channels of the decoded audio, `streams` the independently coded sets of
    rows that are stacked in a frame: 1 and 1 for a mono codec, 2 and 1 for a codec that codes
    stereo jointly, 2 and 2 for a mono codec that coded each of two channels.

    A frame stands for `frame_size` samples, the last one for the rest: there are always
    ceil(samples / frame_size). Recordings are compared by value; times are exact, in integer
    samples.

    Attributes:
        kind: kind of the frames, as of `Header`.
        rows_field: name of the field that holds them.
    """

    kind: ClassVar[str]
    rows_field: ClassVar[str]

    codec: str  # name of the codec that encoded them
    fingerprint: str  # of its weights
    sample_rate: int  # Hz, of the codec
    frame_size: int  # samples at sample_rate
    samples: int  # exact length at sample_rate
    original_rate: int  # Hz, of the recording before it was resampled
    original_samples: int  # exact length at original_rate
    channels: int = 1
    streams: int = 1

    def _check(self, header: Header) -> None:
        """Keep the header and a read-only copy of the frames, or raise ValueError."""
        frames: np.ndarray = self.numbers
        header.check(frames)
        header.check_length(frames.shape[1], self.samples, self.original_samples)
        kept = np.ascontiguousarray(frames, header.dtype)
        if kept.flags.writeable:  # a read-only array need not be copied
            kept = kept.copy() if kept is frames or kept.base is not None else kept
            kept.flags.writeable = False
        object.__setattr__(self, self.rows_field, kept)
        object.__setattr__(self, "_header", header)

    def _header_of(self, **more: Any) -> Header:
        """Return the header of these facts and those that frames of this kind alone have."""
        return Header(**{name: getattr(self, name) for name in _SHARED}, **more)

    def _plain(self) -> None:
        """Turn integers of numpy into Python's."""
        for name, value in list(vars(self).items()):
            if isinstance(value, np.integer):
                object.__setattr__(self, name, int(value))

    @property
    def numbers(self) -> np.ndarray:
        """Content of the frames, `[rows f]`: codes or latents."""
        return getattr(self, self.rows_field)

    @property
    def header(self) -> Header:
        """Facts that a file stores besides the frames and their length, for a `TokenWriter`."""
        return self.__dict__["_header"]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of entries in each codebook of one stream; none of latents."""
        return self.header.sizes

    @property
    def frames(self) -> int:
        """Number of frames."""
        return self.numbers.shape[1]

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.frame_size

    @property
    def seconds(self) -> float:
        """Duration of the audio in seconds."""
        return self.samples / self.sample_rate

    @property
    def kbps(self) -> float:
        """Nominal bit rate of all streams in kbit/s: frames per second x bits a frame."""
        return self.header.kbps

    def cut(self: C, start: float | int | None = None, end: float | int | None = None) -> C:
        """Return the frames that contain any sample from `start` to `end`.

        Frames are whole, so the cut may begin and end up to a frame outside the range.

        Args:
            start: seconds; None for the start of the recording.
            end: seconds; None for its end, as is any time past it.

        Raises:
            ValueError: not 0 <= start <= end.
        """
        first, last = frame_range(self.header, self.samples, start, end)
        length = _lengths(first, last, self.frame_size, self.samples, self.original_samples)
        return self.of(self.header, self.numbers[:, first:last], *length)

    def cat(self: C, *others: C) -> C:
        """Return this recording with others joined after it in time.

        Raises:
            ValueError: they differ in more than frames and length, or one that is not the last
                ends within a frame.
        """
        parts = (self, *others)
        for part, following in zip(parts, others, strict=False):
            _check_same_header("join", self, following)
            if part.samples != part.frames * part.frame_size:
                within = f"{part.samples} samples end within a frame of {part.frame_size}"
                raise InputError(f"cannot join: {within}; only the last part may")
        return self.holding(
            np.concatenate([part.numbers for part in parts], axis=1),
            samples=sum(part.samples for part in parts),
            original_samples=sum(part.original_samples for part in parts),
        )

    def channel(self: C, number: int) -> C:
        """Return one stream: channel `number` of a recording whose channels were coded apart.

        Raises:
            ValueError: there is no such stream.
        """
        if not 0 <= number < self.streams:
            raise InputError(f"no stream {number}: the channels were coded as {self.streams}")
        rows, channels = self.header.stream_rows, self.channels // self.streams
        own = self.numbers[number * rows : (number + 1) * rows]
        return self.holding(own, channels=channels, streams=1)

    @classmethod
    def stack(cls: type[C], parts: Sequence[C]) -> C:
        """Return channels that were coded apart as one recording; `channel` is the inverse.

        Raises:
            ValueError: no parts, or they differ in more than frames.
        """
        if not parts:
            raise InputError(f"nothing to stack: give the {cls.__name__} of at least one channel")
        for part in parts:
            _check_same_header("stack", parts[0], part)
            one, first = ((each.samples, each.original_samples) for each in (part, parts[0]))
            if one != first:
                raise InputError(f"cannot stack {part.samples} samples on {parts[0].samples}")
        return parts[0].holding(
            np.concatenate([part.numbers for part in parts]),
            channels=sum(part.channels for part in parts),
            streams=sum(part.streams for part in parts),
        )

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write a .tok file, complete or not at all.

        Args:
            path: the file to write.
            force: whether to overwrite an existing file.

        Raises:
            TokenFileExistsError: `path` exists, and `force` is False.
            TokenFileError: it cannot be written.
        """
        self._write(TokenWriter(path, self.header, force=force))

    def append(self, path: str | Path) -> None:
        """Append these frames to the .tok file at `path`, in place; see `TokenWriter.reopen`.

        Raises:
            ValueError: the file has another header, or ends within a frame.
            TokenFileError: it cannot be read or written.
        """
        writer = TokenWriter.reopen(path)
        _check_same_header(f"append to {path}", writer, self)
        self._write(writer)

    def _write(self, writer: TokenWriter) -> None:
        """Write the frames, and close the file."""
        lengths = {"samples": self.samples, "original_samples": self.original_samples}
        with writer:
            writer.append(self.numbers, **lengths)

    @classmethod
    def load(
        cls: type[C],
        path: str | Path,
        *,
        start: float | int | None = None,
        end: float | int | None = None,
    ) -> C:
        """Read a .tok file, or only the frames that `cut` would return.

        Args:
            path: the file.
            start: seconds; None for the start of the recording.
            end: seconds; None for its end, as is any time past it.

        Raises:
            TokenFileError: the file cannot be read, the part to be read is damaged, or its frames
                are of the other kind.
            ValueError: not 0 <= start <= end.
        """
        with TokenReader(path) as reader:
            cls._check_kind(reader.header, path)
            return read_part(cls, reader, start, end)

    @classmethod
    def recover(cls: type[C], path: str | Path) -> Recovery[C]:
        """Return the readable pieces of a damaged .tok file, each with its time.

        Raises:
            TokenFileError: no piece can be read, the file cannot be opened, or its frames are of
                the other kind.
        """
        report = verify(path)
        if report.ok:
            return Recovery([(0.0, cls.load(path))], report)
        header, pieces, _ = salvage(path)
        cls._check_kind(header, path)
        if not pieces:
            raise TokenFileDamagedError(f"{path}: nothing is left; encode the recording again")
        timed = [(header.seconds(piece.first), cls.of(header, *piece[1:])) for piece in pieces]
        return Recovery(timed, report)

    @classmethod
    def _check_kind(cls, header: Header, path: str | Path) -> None:
        """Raise unless the frames of a file are of this kind."""
        if header.kind != cls.kind:
            raise TokenFileError(
                f"{path}: holds {header.kind} of {header.codec}, not {cls.kind}; "
                f"`{KINDS[header.kind]}.load` reads it"
            )

    @classmethod
    def of(
        cls: type[C],
        header: Header,
        numbers: np.ndarray,
        samples: int,
        original_samples: int,
        original_rate: int | None = None,
    ) -> C:
        """Return frames with the facts of a header.

        Args:
            header: of frames of this kind.
            numbers: the frames `[rows f]`.
            samples: exact length at the codec's rate.
            original_samples: exact length at the original rate.
            original_rate: that rate in Hz, if it is not the header's.
        """
        facts: dict[str, Any] = {name: getattr(header, name) for name in _SHARED}
        facts |= {cls.rows_field: numbers, "samples": samples, "original_samples": original_samples}
        if original_rate is not None:
            facts["original_rate"] = original_rate
        return cls(**facts, **cls._more_of(header))

    @classmethod
    def _more_of(cls, header: Header) -> dict[str, Any]:
        """Return the facts of a header that frames of this kind alone have."""
        return {}

    def holding(self: C, numbers: np.ndarray, **changes: Any) -> C:
        """Return other frames `[rows f]` with the same facts but for changes."""
        return replace(self, **{self.rows_field: numbers}, **changes)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return NotImplemented
        mine = (self.header, self.samples, self.original_samples)
        theirs = (other.header, other.samples, other.original_samples)
        return mine == theirs and np.array_equal(self.numbers, other.numbers)

    def __hash__(self) -> int:
        return hash((self.header, self.samples, (self.numbers + 0).tobytes()))  # of -0.0 as of 0.0


# Fields that `Coded` and `Header` have in common, under the same names.
_SHARED = {field.name for field in fields(Coded)} & {field.name for field in fields(Header)}


@dataclass(frozen=True)
class Recovery(Generic[C]):
    """Readable pieces of a damaged file, and its damage.

    Attributes:
        pieces: start in seconds and frames of each piece, in order.
        report: of `verify`.
    """

    pieces: list[tuple[float, C]]
    report: DamageReport


def read_part(
    kind: type[C], reader: TokenReader, start: float | int | None, end: float | int | None
) -> C:
    """Return the frames of an open file that `cut` would return.

    Args:
        kind: the kind of its frames.
        reader: the file.
        start: as for `Coded.load`.
        end: as for `Coded.load`.
    """
    header, samples = reader.header, reader.samples
    first, last = frame_range(header, samples, start, end)
    numbers = reader.read(first, last)
    length = _lengths(first, last, header.frame_size, samples, reader.original_samples)
    return kind.of(header, numbers, *length)


def _lengths(
    first: int, last: int, frame_size: int, samples: int, original_samples: int
) -> tuple[int, int]:
    """Return samples, and original samples in proportion, of frames `first` to `last`.

    Lengths of adjacent ranges add up exactly to the whole.
    """
    a, b = (min(frame * frame_size, samples) for frame in (first, last))
    start = a * original_samples // max(1, samples)
    stop = b * original_samples // samples if samples else original_samples
    return b - a, stop - start


def _check_same_header(verb: str, one: Coded | TokenWriter, other: Coded) -> None:
    """Raise ValueError unless two headers are equal; `verb` is for the message."""
    for field in fields(Header):
        a, b = getattr(one.header, field.name), getattr(other.header, field.name)
        if field.compare and a != b:
            raise InputError(f"cannot {verb}: {field.name} differs ({a!r} and {b!r})")
