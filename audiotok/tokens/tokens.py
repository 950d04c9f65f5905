"""Tokens: one recording's codes in memory; `audiotok.tokens` describes the files that hold them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from audiotok._platform.errors import Error, InputError
from audiotok.audio.axes import new_axes
from audiotok.tokens import Header, picture
from audiotok.tokens.codebooks import SEMANTIC, semantic_codebooks_of
from audiotok.tokens.coded import Coded
from audiotok.tokens.coded import Recovery as Recovery


class NoSemanticCodebooksError(Error, ValueError):
    """Error of asking for semantic codebooks of a codec that has none."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Tokens(Coded):
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

    kind: ClassVar[str] = "codes"
    rows_field: ClassVar[str] = "codes"

    codes: np.ndarray  # [k f] integers, streams x codebooks rows; kept as read-only int64
    size: int | tuple[int, ...]  # entries in every codebook, or in each one of a stream
    semantic_codebooks: int | None = None  # from the first; None for those that the codec's has

    def __post_init__(self) -> None:
        self._plain()
        sizes = self.size
        if not isinstance(sizes, tuple):
            rows = len(self.codes) if np.ndim(self.codes) else 0
            if rows % max(1, self.streams):
                raise InputError(f"{rows} rows of codes do not divide into {self.streams} streams")
            sizes = (sizes,) * (rows // max(1, self.streams))
        object.__setattr__(self, "size", sizes[0] if len(set(sizes)) == 1 else sizes)
        if self.semantic_codebooks is None:
            object.__setattr__(self, "semantic_codebooks", semantic_codebooks_of(self.codec))
        self._check(self._header_of(sizes=sizes, semantic_codebooks=self.semantic_codebooks))

    @classmethod
    def _more_of(cls, header: Header) -> dict[str, Any]:
        return {"size": header.sizes, "semantic_codebooks": header.semantic_codebooks}

    @property
    def codebooks(self) -> int:
        """Number of codebooks of one stream."""
        return len(self.header.sizes)

    def first(self, codebooks: int) -> Tokens:
        """Return the first so many codebooks of each stream: coarser audio at a lower bit rate.

        Raises:
            ValueError: not 1 to `self.codebooks`.
        """
        if not 1 <= codebooks <= self.codebooks:
            raise InputError(f"cannot take {codebooks} codebooks of {self.codebooks}")
        return self.holding(self._rows(0, codebooks), size=self.sizes[:codebooks])

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
