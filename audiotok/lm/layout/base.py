"""What a layout is made of: which ids stand for what, and the JSON file that says so."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from audiotok._platform import jsonfile
from audiotok._platform.atomic import complete
from audiotok._platform.registry import find
from audiotok.lm.layout.units import MOST, Pieces
from audiotok.lm.patterns.base import Pattern, Rows, Serial

V = TypeVar("V", bound="Vocabulary")

SPECIALS = ("pad", "begin", "end", "mask", "separator")
PAD, BEGIN, END, MASK, SEPARATOR = range(len(SPECIALS))
NONE = len(SPECIALS)  # first id that stands for a code
VERSION = 1


class LayoutError(ValueError):
    """Ids that this layout did not make, or codes that do not fit it."""


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Codes `[k f]` <-> ids: `[n]` where codes follow one another, `[rows n]` in rows.

    Ids of one row, from `offset` on:

        pad begin end mask separator | codebook 0 | codebook 1 ... | durations 1 to `longest`

    with pieces in place of all that follows the marks, if there are any. In rows (parallel, delay,
    coarse_first) each row counts its own ids from 0: marks, then its codebook. `begin` and `end`
    are around every sequence; in rows only the first says `end`, the others are padded.

    Raises:
        ValueError: fields that do not go together.
    """

    sizes: tuple[int, ...]  # entries of each codebook that takes part
    pattern: str = "flat"  # a file of audiotok/lm/patterns
    options: dict[str, Any] = field(default_factory=dict)  # of the pattern
    runs: Literal["keep", "drop", "durations"] = "keep"  # of equal frames
    longest: int = 32  # frames that one duration can say
    pieces: dict[str, Any] | None = None  # a tokenizer.json over units
    offset: int = 0  # first id: the size of a text vocabulary that comes before
    codec: str = ""  # that made the codes, and that decodes them
    fingerprint: str = ""
    sample_rate: int = 0
    frame_size: int = 0

    def __post_init__(self) -> None:
        options = {key: _listed(value) for key, value in self.options.items()}
        object.__setattr__(self, "options", options)
        if not self.sizes or min(self.sizes) < 1:
            raise LayoutError(f"codebooks of {list(self.sizes)} entries: each needs at least one")
        if self.runs not in ("keep", "drop", "durations") or self.longest < 1 or self.offset < 0:
            raise LayoutError("runs are keep, drop or durations; longest >= 1, offset >= 0")
        rows = isinstance(self.order, Rows)
        if rows and (self.pieces is not None or self.offset):
            raise LayoutError(f"pieces and an offset need one row; {self.pattern} has several")
        if self.pieces is not None and sum(self.books) > MOST:
            raise LayoutError(f"{sum(self.books)} units; pieces are made of {MOST} at most")
        if self.vocabulary and self.learned and self.learned.flat.max(initial=0) >= sum(self.books):
            raise LayoutError("the pieces have units that no codebook of this layout has")

    @classmethod
    def of(cls: type[V], source: Any, *, codebooks: int | None = None, **chosen: Any) -> V:
        """A layout for what a codec makes.

        Args:
            source: Tokens of any recording, or a Corpus.
            codebooks: use the first so many; all if None.
            chosen: any other field.

        Raises:
            LayoutError: there are not so many codebooks.
        """
        k = len(source.sizes) if codebooks is None else codebooks
        if not 1 <= k <= len(source.sizes):
            raise LayoutError(f"{k} codebooks: there are {len(source.sizes)}")
        return cls(
            sizes=source.sizes[:k] * getattr(source, "streams", 1),
            codec=source.codec,
            fingerprint=source.fingerprint,
            sample_rate=source.sample_rate,
            frame_size=source.frame_size,
            **chosen,
        )

    @cached_property
    def books(self) -> tuple[int, ...]:
        """Entries of what the pattern orders: codebooks, and durations if there are any."""
        return (*self.sizes, self.longest) if self.runs == "durations" else self.sizes

    @cached_property
    def order(self) -> Pattern:
        """The pattern."""
        options = dict(self.options)
        if self.pattern == "coarse_first":
            options.setdefault("gap", 1)
        try:
            return find("patterns", self.pattern)(len(self.books), **options)
        except TypeError as error:
            raise LayoutError(f"pattern {self.pattern}: {error}") from None

    @property
    def serial(self) -> bool:
        """Whether ids are one row."""
        return isinstance(self.order, Serial)

    @property
    def exact(self) -> bool:
        """Whether decoding gives back all that was encoded."""
        return self.runs != "drop"

    @cached_property
    def firsts(self) -> np.ndarray:
        """The unit that each codebook begins with, and at the end how many there are."""
        return np.cumsum((0, *self.books))

    @cached_property
    def learned(self) -> Pieces | None:
        """The pieces, or None."""
        return None if self.pieces is None else Pieces(self.pieces, NONE)

    @cached_property
    def vocabulary(self) -> tuple[int, ...]:
        """Ids of each row, from 0 on, the `offset` included."""
        if isinstance(self.order, Rows):
            return tuple(NONE + size for size in self.books)
        units = int(self.firsts[-1]) if self.learned is None else len(self.learned)
        return (self.offset + NONE + units,)

    def special(self, name: str) -> int:
        """The id of `pad`, `begin`, `end`, `mask` or `separator`."""
        return self.offset + SPECIALS.index(name)

    def names(self) -> list[str]:
        """What each id from `offset` on is called in a text tokenizer: `<|a0_0123|>`.

        Raises:
            LayoutError: ids are in rows.
        """
        if not self.serial:
            raise LayoutError(f"the ids of {self.pattern} are in rows; a text vocabulary has one")
        marks = [f"<|audio_{name}|>" for name in SPECIALS]
        if self.learned is not None:
            return marks + [f"<|u{i:05d}|>" for i in range(len(self.learned))]
        codes = [f"<|a{q}_{code:04d}|>" for q, n in enumerate(self.sizes) for code in range(n)]
        longest = self.longest if self.runs == "durations" else 0
        return marks + codes + [f"<|d{n:03d}|>" for n in range(1, longest + 1)]

    def save(self, path: str | Path) -> None:
        """Write it as JSON: complete or not at all."""
        made = {"version": VERSION, **asdict(self)}
        with complete(Path(path)) as part:
            part.write_text(json.dumps(made, indent=1, ensure_ascii=True) + "\n", "utf-8")

    @classmethod
    def load(cls: type[V], path: str | Path) -> V:
        """Read what `save` wrote.

        Raises:
            LayoutError: not there, not a layout, or of a later version.
        """
        try:
            made = jsonfile.parse(Path(path).read_bytes(), str(path))
            version = made.pop("version")
            made["sizes"] = tuple(made.get("sizes", ()))
        except OSError as error:
            raise LayoutError(f"{path}: cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, AttributeError, TypeError):
            raise LayoutError(f"{path}: not a layout") from None
        if version != VERSION:
            raise LayoutError(f"{path}: version {version}; this audiotok reads {VERSION}")
        unknown = set(made) - {f.name for f in fields(cls)}
        try:
            if unknown:
                raise ValueError(f"unknown {sorted(unknown)}")
            return cls(**made)
        except (TypeError, ValueError) as error:
            raise LayoutError(f"{path}: not a layout: {error}") from None


def _listed(value: Any) -> Any:
    """Tuples as lists, which is what JSON has."""
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
