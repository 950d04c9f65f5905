"""Tokens: one recording's codes in memory; `audiotok.tokens` describes the files that hold them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from audiotok._platform.errors import Error, InputError
from audiotok.audio.axes import new_axes
from audiotok.tokens import (
    DamageReport,
    Header,
    TokenFileDamagedError,
    TokenReader,
    TokenWriter,
    frame_range,
    picture,
    salvage,
    verify,
)
from audiotok.tokens.codebooks import SEMANTIC, semantic_codebooks_of

# Fields that `Tokens` and `Header` have in common, under the same names.
_SHARED = ("codec", "fingerprint", "sample_rate", "frame_size", "original_rate")
_SHARED += ("channels", "streams", "semantic_codebooks")


class NoSemanticCodebooksError(Error, ValueError):
    """Error of asking for semantic codebooks of a codec that has none."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Tokens:
    """Codes `[k f]` of one recording, with what is needed to store, cut and decode them.

    `channels` counts the channels of the decoded audio, `streams` the independently coded sets of
    codebooks that are stacked in `codes`: 1 and 1 for a mono codec, 2 and 1 for a codec that codes
    stereo jointly, 2 and 2 for a mono codec that coded each of two channels. Rows go stream by
    stream:

        codes   stream 0: codebook 0, codebook 1 ...   | frames ->
                stream 1: codebook 0, codebook 1 ...   v

    A frame stands for `frame_size` samples, the last one for the rest: there are always
    ceil(samples / frame_size). Tokens are compared by value; times are exact, in integer samples.

    Raises:
        ValueError: a field is out of its range, codes do not fit their codebooks, or the number
            of frames does not fit `samples`.
    """

    codes: np.ndarray  # [k f] integers, streams x codebooks rows; kept as read-only int64
    size: int | tuple[int, ...]  # entries in every codebook, or in each one of a stream
    codec: str  # name of the codec that encoded them
    fingerprint: str  # of its weights
    sample_rate: int  # Hz, of the codec
    frame_size: int  # samples at sample_rate
    samples: int  # exact length at sample_rate
    original_rate: int  # Hz, of the recording before it was resampled
    original_samples: int  # exact length at original_rate
    channels: int = 1
    streams: int = 1
    semantic_codebooks: int | None = None  # from the first; None for those that the codec's has

    def __post_init__(self) -> None:
        for name, value in list(vars(self).items()):
            if isinstance(value, np.integer):
                object.__setattr__(self, name, int(value))
        sizes = self.size
        if not isinstance(sizes, tuple):
            rows = len(self.codes) if np.ndim(self.codes) else 0
            if rows % max(1, self.streams):
                raise InputError(f"{rows} rows of codes do not divide into {self.streams} streams")
            sizes = (sizes,) * (rows // max(1, self.streams))
        object.__setattr__(self, "size", sizes[0] if len(set(sizes)) == 1 else sizes)
        if self.semantic_codebooks is None:
            object.__setattr__(self, "semantic_codebooks", semantic_codebooks_of(self.codec))
        header = Header(sizes=sizes, **{name: getattr(self, name) for name in _SHARED})
        header.check(self.codes)
        header.check_length(self.codes.shape[1], self.samples, self.original_samples)
        codes = np.ascontiguousarray(self.codes, np.int64)
        if codes.flags.writeable:  # a read-only array need not be copied
            codes = codes.copy() if codes is self.codes or codes.base is not None else codes
            codes.flags.writeable = False
        object.__setattr__(self, "codes", codes)
        object.__setattr__(self, "_header", header)

    @property
    def header(self) -> Header:
        """Facts that a file stores besides the codes and their length, for a `TokenWriter`."""
        return self.__dict__["_header"]

    @property
    def frames(self) -> int:
        """Number of frames."""
        return self.codes.shape[1]

    @property
    def codebooks(self) -> int:
        """Number of codebooks of one stream."""
        return len(self.header.sizes)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of entries in each codebook of one stream."""
        return self.header.sizes

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
        return self.frame_rate * self.streams * sum(map(math.log2, self.sizes)) / 1000

    def first(self, codebooks: int) -> Tokens:
        """Return the first so many codebooks of each stream: coarser audio at a lower bit rate.

        Raises:
            ValueError: not 1 to `self.codebooks`.
        """
        if not 1 <= codebooks <= self.codebooks:
            raise InputError(f"cannot take {codebooks} codebooks of {self.codebooks}")
        return replace(self, codes=self._rows(0, codebooks), size=self.sizes[:codebooks])

    @property
    def semantic(self) -> np.ndarray:
        """Codes `[k f]` of the semantic codebooks: the first ones, which a teacher distilled.

        `first(tokens.semantic_codebooks)` are the same as Tokens, which the codec decodes.

        Raises:
            NoSemanticCodebooksError: the codec has none.
        """
        return self._rows(0, self._semantic())

    @property
    def acoustic(self) -> np.ndarray:
        """Codes `[k f]` of the codebooks after the semantic ones, stream by stream.

        They are no Tokens, since the codec does not decode them without the semantic ones.

        Raises:
            NoSemanticCodebooksError: the codec has none.
        """
        return self._rows(self._semantic(), self.codebooks)

    def _semantic(self) -> int:
        """Return the number of semantic codebooks among those of these tokens."""
        if not self.semantic_codebooks:
            with_some = ", ".join(SEMANTIC)
            raise NoSemanticCodebooksError(
                f"tokens of {self.codec!r}, none of whose codebooks is semantic: `codes` holds "
                f"them all; codecs with semantic codebooks are {with_some}"
            )
        return min(self.semantic_codebooks, self.codebooks)

    def _rows(self, first: int, last: int) -> np.ndarray:
        """Return the codes of codebooks `first` to `last` of each stream."""
        codes = self.codes.reshape(self.streams, self.codebooks, self.frames)[:, first:last]
        return codes.reshape(self.streams * (last - first), self.frames)

    def cut(self, start: float | int | None = None, end: float | int | None = None) -> Tokens:
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
        return self._of(self.header, self.codes[:, first:last], *length)

    def cat(self, *others: Tokens) -> Tokens:
        """Return these tokens with others joined after them in time.

        Raises:
            ValueError: they differ in more than codes and length, or one that is not the last
                ends within a frame.
        """
        parts = (self, *others)
        for part, following in zip(parts, others, strict=False):
            _check_same_header("join", self, following)
            if part.samples != part.frames * part.frame_size:
                within = f"{part.samples} samples end within a frame of {part.frame_size}"
                raise InputError(f"cannot join: {within}; only the last part may")
        return replace(
            self,
            codes=np.concatenate([part.codes for part in parts], axis=1),
            samples=sum(part.samples for part in parts),
            original_samples=sum(part.original_samples for part in parts),
        )

    def channel(self, number: int) -> Tokens:
        """Return one stream: channel `number` of a recording whose channels were coded apart.

        Raises:
            ValueError: there is no such stream.
        """
        if not 0 <= number < self.streams:
            raise InputError(f"no stream {number}: the channels were coded as {self.streams}")
        codes = self.codes[number * self.codebooks : (number + 1) * self.codebooks]
        channels = self.channels // self.streams
        return replace(self, codes=codes, size=self.sizes, channels=channels, streams=1)

    @classmethod
    def stack(cls, parts: Sequence[Tokens]) -> Tokens:
        """Return channels that were coded apart as one recording; `channel` is the inverse.

        Raises:
            ValueError: no parts, or they differ in more than codes.
        """
        if not parts:
            raise InputError("nothing to stack: give the Tokens of at least one channel")
        for part in parts:
            _check_same_header("stack", parts[0], part)
            one, first = ((each.samples, each.original_samples) for each in (part, parts[0]))
            if one != first:
                raise InputError(f"cannot stack {part.samples} samples on {parts[0].samples}")
        return replace(
            parts[0],
            codes=np.concatenate([part.codes for part in parts]),
            size=parts[0].sizes,
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
        with TokenWriter(path, self.header, force=force) as writer:
            writer.append(self.codes, samples=self.samples, original_samples=self.original_samples)

    def append(self, path: str | Path) -> None:
        """Append these tokens to the .tok file at `path`, in place; see `TokenWriter.reopen`.

        Raises:
            ValueError: the file has another header, or ends within a frame.
            TokenFileError: it cannot be read or written.
        """
        writer = TokenWriter.reopen(path)
        _check_same_header(f"append to {path}", writer, self)
        with writer:
            writer.append(self.codes, samples=self.samples, original_samples=self.original_samples)

    @classmethod
    def load(
        cls, path: str | Path, *, start: float | int | None = None, end: float | int | None = None
    ) -> Tokens:
        """Read a .tok file, or only the frames that `cut` would return.

        Args:
            path: the file.
            start: seconds; None for the start of the recording.
            end: seconds; None for its end, as is any time past it.

        Raises:
            TokenFileError: the file cannot be read, or the part to be read is damaged.
            ValueError: not 0 <= start <= end.
        """
        with TokenReader(path) as reader:
            header, samples = reader.header, reader.samples
            first, last = frame_range(header, samples, start, end)
            codes = reader.read(first, last)
        length = _lengths(first, last, header.frame_size, samples, reader.original_samples)
        return cls._of(header, codes, *length)

    @classmethod
    def recover(cls, path: str | Path) -> Recovery:
        """Return the readable pieces of a damaged .tok file, each with its time.

        Raises:
            TokenFileError: no piece can be read, or the file cannot be opened.
        """
        report = verify(path)
        if report.ok:
            return Recovery([(0.0, cls.load(path))], report)
        header, pieces, _ = salvage(path)
        if not pieces:
            raise TokenFileDamagedError(f"{path}: nothing is left; encode the recording again")
        timed = [(header.seconds(piece.first), cls._of(header, *piece[1:])) for piece in pieces]
        return Recovery(timed, report)

    @classmethod
    def _of(cls, header: Header, codes: np.ndarray, samples: int, original: int) -> Tokens:
        """Return tokens of a header, codes and their lengths."""
        return cls(
            codes=codes,
            size=header.sizes,
            samples=samples,
            original_samples=original,
            **{name: getattr(header, name) for name in _SHARED},
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tokens):
            return NotImplemented
        mine = (self.header, self.samples, self.original_samples)
        theirs = (other.header, other.samples, other.original_samples)
        return mine == theirs and np.array_equal(self.codes, other.codes)

    def __hash__(self) -> int:
        return hash((self.header, self.samples, self.codes.tobytes()))

    def plot(
        self,
        ax: Any | None = None,
        *,
        embeddings: Iterable[Any] | None = None,
        start: float = 0.0,
    ) -> Any:
        """Draw a row for each codebook, with seconds below, and return the matplotlib axes.

        Args:
            ax: axes to draw into; those of a new figure if None.
            embeddings: entries of each codebook, arrays or tensors `[entries d]`, as
                `codec.codebook_embeddings()` gives them: similar ones get similar colours. If None,
                colours tell codes apart, and that two are close means nothing.
            start: time of the first frame in seconds.

        Raises:
            ImportError: matplotlib is not installed.
            ValueError: the entries do not fit the codebooks.
        """
        axes = new_axes(ax)
        picture.draw(axes, self, embeddings=embeddings, start=start)
        return axes

    def _repr_html_(self) -> str:
        """Return a picture of the codes, which notebooks show."""
        return picture.html(self)

    def __repr__(self) -> str:
        shape = f"{self.streams} x {self.codebooks}" if self.streams > 1 else f"{self.codebooks}"
        extent = f"{self.seconds:.2f} s, {shape} codebooks x {self.frames} frames"
        return f"<Tokens of {self.codec}: {extent}, {self.kbps:.2f} kbps>"


@dataclass(frozen=True)
class Recovery:
    """Readable pieces of a damaged file, and its damage.

    Attributes:
        pieces: start in seconds and tokens of each piece, in order.
        report: of `verify`.
    """

    pieces: list[tuple[float, Tokens]]
    report: DamageReport


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


def _check_same_header(verb: str, one: Tokens | TokenWriter, other: Tokens) -> None:
    """Raise ValueError unless two headers are equal; `verb` is for the message."""
    for field in fields(Header):
        a, b = getattr(one.header, field.name), getattr(other.header, field.name)
        if field.compare and a != b:
            raise InputError(f"cannot {verb}: {field.name} differs ({a!r} and {b!r})")
