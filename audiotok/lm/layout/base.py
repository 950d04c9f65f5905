"""Vocabulary of a layout: the meaning of each id, and the JSON file that records it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from audiotok._platform import jsonfile
from audiotok._platform.atomic import atomic_file
from audiotok._platform.errors import Error, InputError
from audiotok._platform.registry import find
from audiotok.lm.layout.units import MAX_UNITS, Pieces
from audiotok.lm.patterns.base import Pattern, Rows, Serial
from audiotok.tokens.codebooks import needs_codes

V = TypeVar("V", bound="Vocabulary")

SPECIALS = ("pad", "begin", "end", "mask", "separator")
PAD, BEGIN, END, MASK, SEPARATOR = range(len(SPECIALS))
NONE = len(SPECIALS)  # first id of a code
VERSION = 1


class LayoutError(Error, ValueError):
    """Error for ids that are not of a layout, or codes that do not fit it."""


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Vocabulary of ids for codes `[k f]`: ids `[n]` of a serial pattern, or `[rows n]` in rows.

    The ids of a serial pattern are, from `offset` on:

        pad begin end mask separator | codebook 0 | codebook 1 ... | durations 1 to `longest`

    With pieces, these follow the marks in place of codebooks and durations. In rows (the patterns
    parallel, delay and coarse_first) each row has ids of its own from 0: marks, then its codebook.
    Every sequence is between `begin` and `end`; in rows only the first row has `end`, and the
    others are padded.

    Raises:
        LayoutError: the fields contradict each other.
    """

    sizes: tuple[int, ...]  # number of entries of each codebook that is used
    pattern: str = "flat"  # name of a file of audiotok/lm/patterns
    options: dict[str, Any] = field(default_factory=dict)  # arguments of the pattern
    runs: Literal["keep", "drop", "durations"] = "keep"  # treatment of runs of equal frames
    longest: int = 32  # longest duration, in frames
    pieces: dict[str, Any] | None = None  # content of a tokenizer.json over units
    offset: int = 0  # first id, which is the size of a preceding text vocabulary
    codec: str = ""  # name of the codec of the codes
    fingerprint: str = ""  # fingerprint of the codec's weights
    sample_rate: int = 0  # Hz
    frame_size: int = 0  # samples per frame
    streams: int = 1  # channels whose codebooks follow each other in `sizes`

    def __post_init__(self) -> None:
        options = {key: _listed(value) for key, value in self.options.items()}
        object.__setattr__(self, "options", options)
        if not self.sizes or min(self.sizes) < 1:
            raise LayoutError(f"codebooks of {list(self.sizes)} entries: each needs at least one")
        if self.runs not in ("keep", "drop", "durations") or self.longest < 1 or self.offset < 0:
            raise LayoutError("runs are keep, drop or durations; longest >= 1, offset >= 0")
        if self.streams < 1 or len(self.sizes) % self.streams:
            raise LayoutError(f"{len(self.sizes)} codebooks, not those of {self.streams} streams")
        rows = isinstance(self.order, Rows)
        if rows and (self.pieces is not None or self.offset):
            raise LayoutError(f"pieces and an offset need one row; {self.pattern} has several")
        if self.pieces is not None and sum(self.books) > MAX_UNITS:
            raise LayoutError(f"{sum(self.books)} units; pieces are made of {MAX_UNITS} at most")
        if self.vocabulary and self.learned and self.learned.flat.max(initial=0) >= sum(self.books):
            raise LayoutError("the pieces have units that no codebook of this layout has")

    @classmethod
    def of(cls: type[V], source: Any, *, codebooks: int | None = None, **chosen: Any) -> V:
        """Return a layout for the codes of a codec.

        Args:
            source: Tokens of any recording, or a Corpus.
            codebooks: number of codebooks to use, from the first; None for all.
            **chosen: any other fields.

        Raises:
            LayoutError: the codec has fewer codebooks.
            NoCodesError: the codec gives latents.
        """
        needs_codes(getattr(source, "width", 0), source.codec, "a layout of ids")
        k = len(source.sizes) if codebooks is None else codebooks
        if not 1 <= k <= len(source.sizes):
            raise LayoutError(f"{k} codebooks: there are {len(source.sizes)}")
        streams = getattr(source, "streams", 1)
        return cls(
            sizes=source.sizes[:k] * streams,
            streams=streams,
            codec=source.codec,
            fingerprint=source.fingerprint,
            sample_rate=source.sample_rate,
            frame_size=source.frame_size,
            **chosen,
        )

    @cached_property
    def books(self) -> tuple[int, ...]:
        """Number of entries of each codebook, durations counted as a last codebook."""
        return (*self.sizes, self.longest) if self.runs == "durations" else self.sizes

    @cached_property
    def order(self) -> Pattern:
        """Pattern that the layout names, for its number of codebooks."""
        options = dict(self.options)
        if self.pattern == "coarse_first":
            options.setdefault("gap", 1)
        try:
            return find("patterns", self.pattern)(len(self.books), **options)
        except TypeError as error:
            raise LayoutError(f"pattern {self.pattern}: {error}") from None

    @property
    def serial(self) -> bool:
        """True if all codebooks are in one row of ids."""
        return isinstance(self.order, Serial)

    @property
    def exact(self) -> bool:
        """True if decoding restores exactly the codes that were encoded."""
        return self.runs != "drop"

    @cached_property
    def firsts(self) -> np.ndarray:
        """First unit of each codebook, followed by the number of units `[len(books) + 1]`."""
        return np.cumsum((0, *self.books))

    @cached_property
    def learned(self) -> Pieces | None:
        """Vocabulary of pieces, or None."""
        return None if self.pieces is None else Pieces(self.pieces, NONE)

    @cached_property
    def vocabulary(self) -> tuple[int, ...]:
        """Numbers of ids, marks included: one for each codebook in rows, else a single one, which
        counts the text ids below `offset` too."""
        if isinstance(self.order, Rows):
            return tuple(NONE + size for size in self.books)
        units = int(self.firsts[-1]) if self.learned is None else len(self.learned)
        return (self.offset + NONE + units,)

    def special(self, name: str) -> int:
        """Return the id of the mark `pad`, `begin`, `end`, `mask` or `separator`."""
        return self.offset + SPECIALS.index(name)

    def names(self) -> list[str]:
        """Return the name of each id from `offset` on in a text tokenizer, such as `<|a0_0123|>`.

        Raises:
            LayoutError: the ids are in rows.
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
        """Write the layout as JSON, completely or not at all."""
        content = {"version": VERSION, **asdict(self)}
        with atomic_file(Path(path)) as part:
            part.write_text(json.dumps(content, indent=1, ensure_ascii=True) + "\n", "utf-8")

    @classmethod
    def load(cls: type[V], path: str | Path) -> V:
        """Read a layout that `save` wrote.

        Raises:
            LayoutError: the file is not there, is not a layout, or is of another version.
        """
        try:
            content = jsonfile.parse(Path(path).read_bytes(), str(path))
            version = content.pop("version")
            content["sizes"] = tuple(content.get("sizes", ()))
        except OSError as error:
            raise LayoutError(f"{path}: cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, AttributeError, TypeError):
            raise LayoutError(f"{path}: not a layout") from None
        if version != VERSION:
            raise LayoutError(f"{path}: version {version}; this audiotok reads {VERSION}")
        try:
            kind = find("dialects", content["dialect"]) if "dialect" in content else cls
            unknown = set(content) - {f.name for f in fields(kind)}
            if unknown:
                raise InputError(f"unknown {sorted(unknown)}")
            return kind(**content)
        except (TypeError, ValueError) as error:
            raise LayoutError(f"{path}: not a layout: {error}") from None


def _listed(value: Any) -> Any:
    """Return a sequence as a list, the form it has in JSON, and other values unchanged."""
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
