"""Interface of dialects: the layout by which a published language model reads and writes codes.

A dialect is a `Layout` whose order, offsets and marks are those of the model instead of ours, so
that corpora are exported for it, and what it generates is decoded:

    layout = Layout.named("orpheus", tokens)
    ids = layout.encode(tokens)        # 128257 128266 ... 128258
    codes = layout.decode(ids)         # exactly those of tokens

It serves the model that it is named after. What makes models of its own from a layout (`Grammar`,
streams, pieces, `lm train` on a corpus) refuses it.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NoReturn, TypeVar

import numpy as np

from audiotok._platform.registry import name_of
from audiotok.lm.layout.base import LayoutError
from audiotok.lm.layout.inverse import DecodedIds
from audiotok.lm.layout.sequence import Layout
from audiotok.lm.layout.units import Pieces
from audiotok.lm.patterns.base import Pattern
from audiotok.lm.patterns.delay import Delay
from audiotok.lm.patterns.flat import Flat
from audiotok.tokens.codebooks import needs_codes
from audiotok.tokens.tokens import Tokens

D = TypeVar("D", bound="Dialect")
UNSET = -1  # an offset that was not given


@dataclass(frozen=True, kw_only=True)
class Dialect(Layout):
    """Layout of a published language model.

    Attributes:
        lm: the models that it is the layout of.
        codecs: names of codecs whose codes they speak.
        entries: number of entries of each codebook that they use, from the first.
        text_ids: number of ids of their text vocabulary, which precede those of codes.
        facts: where the order and the numbers are published.

    Raises:
        LayoutError: fields that are not those of the models.
    """

    sizes: tuple[int, ...] = ()
    offset: int = UNSET
    dialect: str = ""

    lm: ClassVar[str]
    codecs: ClassVar[tuple[str, ...]]
    entries: ClassVar[tuple[int, ...]]
    text_ids: ClassVar[int] = 0
    facts: ClassVar[str]

    def __post_init__(self) -> None:
        name = name_of(type(self))
        own = {"sizes": self.entries, "dialect": name, "pattern": "", "options": {}}
        empty = {"sizes": (), "dialect": "", "pattern": "flat", "options": {}}
        for field, value in own.items():
            if getattr(self, field) not in (empty[field], value):
                raise LayoutError(f"{name}: {field} {getattr(self, field)!r} is not that of its LM")
            object.__setattr__(self, field, value)
        if self.offset == UNSET:
            object.__setattr__(self, "offset", self.text_ids)
        if type(self.offset) is not int or self.offset < 0:
            raise LayoutError(f"{name}: offset {self.offset!r}: it is the size of a vocabulary")
        if self.offset and not self.text_ids:
            raise LayoutError(f"{name}: offset {self.offset}: its text and codes have ids apart")
        if self.streams != 1:
            raise LayoutError(f"{name}: takes one channel, not {self.streams}")
        if self.runs != "keep" or self.pieces is not None:
            raise LayoutError(f"{name}: its LM knows neither durations of runs nor pieces")

    @classmethod
    def of(cls: type[D], source: Any, *, codebooks: int | None = None, **chosen: Any) -> D:
        """Return the dialect for the codes of a codec.

        Args:
            source: Tokens of any recording, or a Corpus, of one of `codecs`.
            codebooks: number of codebooks, which has to be that of the dialect; None for it.
            **chosen: `offset`, if the text vocabulary has another size.

        Raises:
            LayoutError: it is another codec, or codebooks are missing.
            NoCodesError: it gives latents.
        """
        needs_codes(getattr(source, "width", 0), source.codec, "a layout of ids")
        k = len(cls.entries)
        cls.check_codec(source.codec)
        if codebooks not in (None, k) or source.sizes[:k] != cls.entries:
            have = len(source.sizes) if codebooks is None else codebooks
            raise LayoutError(
                f"{name_of(cls)}: takes {k} codebooks of {cls.entries[0]} entries, not {have} of "
                f"{source.sizes[0]}"
            )
        return cls(
            streams=getattr(source, "streams", 1),
            codec=source.codec,
            fingerprint=source.fingerprint,
            sample_rate=source.sample_rate,
            frame_size=source.frame_size,
            **chosen,
        )

    @classmethod
    def check_codec(cls, codec: str) -> None:
        """Raise unless the models speak the codes of a codec.

        Args:
            codec: name of the codec.

        Raises:
            LayoutError: they do not.
        """
        if codec not in cls.codecs:
            known = " or ".join(cls.codecs)
            raise LayoutError(f"{name_of(cls)}: speaks the codes of {known}, not of {codec}")

    def checked(self, codes: Tokens | np.ndarray) -> np.ndarray:
        """See `Layout.checked`; tokens of any codec but those of the models are refused."""
        if isinstance(codes, Tokens):
            self.check_codec(codes.codec)
        return super().checked(codes)

    @abstractmethod
    def encode(self, codes: Tokens | np.ndarray, *, marks: bool = True) -> np.ndarray:
        """See `Layout.encode`; the marks are those of the model."""

    @abstractmethod
    def inverted(self, ids: np.ndarray, marks: bool) -> DecodedIds:
        """See `Layout.inverted`."""

    @property
    def written(self) -> bool:
        """True if codes have names in the model's text tokenizer, as `text` needs."""
        return type(self).names is not Dialect.names

    def names(self) -> list[str]:
        """Return the name of each id from `offset` on in the model's text tokenizer.

        Raises:
            LayoutError: its codes have no names in a text tokenizer.
        """
        raise LayoutError(f"{self.dialect}: its codes are ids only, without a form as text")

    def special(self, name: str) -> int:
        """Return the id of the mark `begin` or `end`.

        Raises:
            LayoutError: the model has no such mark.
        """
        raise LayoutError(f"{self.dialect}: its LM has no mark {name!r} here")

    def _none(self) -> NoReturn:
        raise LayoutError(
            f"{self.dialect} is the layout of {self.lm}: it encodes and decodes for it, and no "
            "model of ours is made with it"
        )

    @property
    def books(self) -> tuple[int, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """See `Vocabulary.books`; refused, as ids are not ours."""
        self._none()

    @property
    def firsts(self) -> np.ndarray:  # pyright: ignore[reportIncompatibleVariableOverride]
        """See `Vocabulary.firsts`; refused, as ids are not ours."""
        self._none()

    @property
    def learned(self) -> Pieces | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """See `Vocabulary.learned`; refused, as ids are not ours."""
        self._none()


class SerialDialect(Dialect):
    """Dialect of one row: frame by frame, each position of a frame with ids of its own.

    Attributes:
        positions: codebook at each position of a frame; None for their order.
        first: id, counted from `text_ids`, of code 0 at the first position.
        begin: id, counted so too, before the codes of a recording.
        end: id, counted so too, after them.
    """

    positions: ClassVar[tuple[int, ...] | None] = None
    first: ClassVar[int] = 0
    begin: ClassVar[int]
    end: ClassVar[int]

    @cached_property
    def order(self) -> Pattern:  # pyright: ignore[reportIncompatibleVariableOverride]
        """See `Vocabulary.order`."""
        return Flat(len(self.entries))

    @cached_property
    def vocabulary(self) -> tuple[int, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """See `Vocabulary.vocabulary`."""
        return (self.offset + max(self.first + sum(self.entries), self.begin + 1, self.end + 1),)

    @cached_property
    def _frame(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Codebook of each position, the first id of its codes, and the number of them."""
        order = np.array(self.positions or range(len(self.entries)))
        sizes = np.array(self.entries)[order]
        return order, self.offset + self.first + np.cumsum(sizes) - sizes, sizes

    def special(self, name: str) -> int:
        """See `Dialect.special`."""
        if name not in ("begin", "end"):
            return super().special(name)
        return self.offset + (self.begin if name == "begin" else self.end)

    def encode(self, codes: Tokens | np.ndarray, *, marks: bool = True) -> np.ndarray:
        """See `Dialect.encode`."""
        order, firsts, _ = self._frame
        ids = (self.checked(codes)[order] + firsts[:, None]).T.ravel()
        return np.r_[self.special("begin"), ids, self.special("end")] if marks else ids

    def inverted(self, ids: np.ndarray, marks: bool) -> DecodedIds:
        """See `Layout.inverted`."""
        problems: list[str] = []
        if marks:
            ids = self._between(ids, problems)
        order, firsts, sizes = self._frame
        k = len(order)
        position = np.arange(len(ids)) % k
        codes = ids - firsts[position]
        wrong = np.flatnonzero((codes < 0) | (codes >= sizes[position]))
        good = int(wrong[0]) if len(wrong) else len(ids)
        if len(wrong):
            low = firsts[position[good]]
            high = low + sizes[position[good]] - 1
            problems.append(
                f"{self.dialect}: position {good + marks}: id {ids[good]}, not {low} to {high}"
            )
        elif good % k:
            problems.append(f"{self.dialect}: cut short: {good % k} of {k} codes of the last frame")
        frames = good // k
        rows = np.empty((k, frames), np.int64)
        rows[order] = codes[: frames * k].reshape(frames, k).T
        return DecodedIds(rows, len(ids), tuple(problems))

    def _between(self, ids: np.ndarray, problems: list[str]) -> np.ndarray:
        """Return the ids between `begin` and `end`."""
        begin, end = self.special("begin"), self.special("end")
        if len(ids) and ids[0] == begin:
            ids = ids[1:]
        else:
            problems.append(f"{self.dialect}: it does not start with {begin}, `begin`")
        ends = np.flatnonzero(ids == end)
        if not len(ends):
            problems.append(f"{self.dialect}: there is no {end}, `end`: it was cut short")
            return ids
        if len(ids) > ends[0] + 1:
            problems.append(f"{self.dialect}: {len(ids) - ends[0] - 1} ids after `end`")
        return ids[: ends[0]]


class RowsDialect(Dialect):
    """Dialect of a row for each codebook, whose ids are its codes, and marks above or among them.

    A row is `begin`, as many `before` as it is delayed, the codes, `end`, and `after` to the end:

        B a0 a1 E P          delay 0
        B B  b0 b1 E         delay 1

    Attributes:
        delays: delay of each row in steps.
        begin: id in each row before all others, one for all or one for each; None for none.
        before: id in cells before the first code of a delayed row.
        end: id after the last code, one for all rows or one for each; None for none.
        after: id in cells after that.
    """

    delays: ClassVar[tuple[int, ...]]
    begin: ClassVar[int | tuple[int, ...] | None] = None
    before: ClassVar[int] = 0
    end: ClassVar[int | tuple[int, ...] | None] = None
    after: ClassVar[int] = 0

    @cached_property
    def order(self) -> Pattern:  # pyright: ignore[reportIncompatibleVariableOverride]
        """See `Vocabulary.order`."""
        return Delay(len(self.entries), delays=self.delays)

    @cached_property
    def vocabulary(self) -> tuple[int, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """See `Vocabulary.vocabulary`."""
        grid, _ = self._grid(0, marks=True)
        return tuple(
            max(size, int(row.max(initial=0)) + 1)
            for size, row in zip(self.entries, grid, strict=True)
        )

    def _grid(self, frames: int, *, marks: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids `[k s]` of a recording without its codes, and the step of each code.

        Args:
            frames: number of frames.
            marks: whether `begin` and `end` are there.

        Returns:
            Ids, -1 where a code is; and the steps `[k f]` of codes.
        """
        k, longest = len(self.entries), max(self.delays)
        starts = int(marks and self.begin is not None)
        ends = int(marks and self.end is not None)
        step = np.arange(starts + frames + longest + ends)
        first = starts + np.array(self.delays)[:, None]
        grid = np.where(step < first, self.before, -1)
        grid = np.where(step >= first + frames, self.after, grid)
        if starts:
            grid[:, 0] = self.begin
        if ends:
            np.put_along_axis(grid, first + frames, np.broadcast_to(self.end or 0, k)[:, None], 1)
        return grid, first + np.arange(frames)

    def _ends(self, codes: np.ndarray) -> np.ndarray:
        """Return whether each frame of codes `[k f]` is what means `end`, where that is codes."""
        if self.end is None or np.max(self.end) >= min(self.entries):
            return np.zeros(codes.shape[1], bool)
        return (self.end == codes.T).all(1)

    def encode(self, codes: Tokens | np.ndarray, *, marks: bool = True) -> np.ndarray:
        """See `Dialect.encode`."""
        codes = self.checked(codes)
        grid, steps = self._grid(codes.shape[1], marks=marks)
        alike = np.flatnonzero(self._ends(codes))
        if len(alike):
            raise LayoutError(f"{self.dialect}: frame {alike[0]} has the codes that mean `end`")
        np.put_along_axis(grid, steps, codes, 1)
        return grid

    def inverted(self, ids: np.ndarray, marks: bool) -> DecodedIds:
        """See `Layout.inverted`."""
        least = self._grid(0, marks=marks)[0].shape[1]
        steps = ids.shape[1]
        if steps < least:
            short = f"{self.dialect}: cut short: {steps} steps, of at least {least}"
            return DecodedIds(np.zeros((len(ids), 0), np.int64), 0, (short,))
        readings = []  # as that many frames, of which the last ones may have been cut off
        for frames in range(steps - least, steps + 1):
            grid, at = self._grid(frames, marks=marks)
            grid, at = grid[:, :steps], at[:, (at < steps).all(0)]
            codes = np.take_along_axis(ids, at, 1)
            wrong, row = self._wrong(ids, grid, at)
            if wrong == steps:
                short = f"{self.dialect}: the end of a row is missing: it was cut short"
                problems = (short,) if frames > steps - least else ()
                return DecodedIds(codes, int((grid < 0).sum()), problems)
            problem = (
                f"{self.dialect}: step {wrong}, row {row}: id {ids[row, wrong]} is out of place"
            )
            codes = codes[:, : int((at < wrong).all(0).sum())]
            readings.append((wrong, DecodedIds(codes, int((grid < 0).sum()), (problem,))))
        return max(readings, key=lambda reading: reading[0])[1]

    def _wrong(self, ids: np.ndarray, grid: np.ndarray, steps: np.ndarray) -> tuple[int, int]:
        """Return step and row of the first id that does not fit a `_grid`; its end if all do."""
        sizes = np.array(self.entries)[:, None]
        fits = np.where(grid < 0, (ids >= 0) & (ids < sizes), ids == grid)
        fits[0, steps[0, self._ends(np.take_along_axis(ids, steps, 1))]] = False
        wrong = np.flatnonzero(~fits.all(0))
        if not len(wrong):
            return ids.shape[1], 0
        return int(wrong[0]), int(np.flatnonzero(~fits[:, wrong[0]])[0])
