"""Grammar of a layout: the ids that may come next, for constrained generation."""

from __future__ import annotations

from typing import cast

import numpy as np

from audiotok.lm.layout.base import BEGIN, END, NONE, PAD, LayoutError
from audiotok.lm.layout.sequence import Layout
from audiotok.lm.patterns.base import Rows, Serial


class Grammar:
    """State of one sequence between `begin` and `end`, and the ids that may follow.

    >>> grammar = Grammar(layout)
    >>> while not grammar.done:
    ...     logits[~grammar.legal()] = -inf
    ...     grammar.push(sample(logits))

    Attributes:
        done: whether the sequence has ended, in rows with the codes that follow `end`.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.done = False
        self._n = -1  # number of codes, or steps, since `begin`; -1 before it
        self._frames: int | None = None
        self._kinds: tuple[np.ndarray, list[tuple[int, ...]]] | None = None
        if layout.learned is not None:
            self._kinds = _kinds(layout)

    @property
    def codes(self) -> int:
        """Number of codes so far in one row; number of steps in rows."""
        return max(0, self._n)

    def legal(self) -> np.ndarray:
        """Return whether each id may come next.

        Returns:
            bool `[v]`; in rows `[rows v]`, where v is the size of the largest row.
        """
        layout = self.layout
        if not layout.serial:
            return self._legal_in_rows()
        legal = np.zeros(layout.vocabulary[0], bool)
        own = legal[layout.offset :]
        if self.done or self._n < 0:
            own[PAD if self.done else BEGIN] = True
            return legal
        nexts = self._nexts(self._n, self._frames)
        own[END] = any(book == len(layout.books) for book, _ in nexts)
        if self._kinds is not None:
            kind, books = self._kinds
            fits = np.array([self._walk(each) is not None for each in books], bool)
            own[NONE:] = fits[kind]
            return legal
        for book, _ in nexts:
            if book < len(layout.books):
                own[NONE + layout.firsts[book] : NONE + layout.firsts[book + 1]] = True
        return legal

    def push(self, ids: int | np.integer | np.ndarray) -> None:
        """Append an id, or in rows a column of ids.

        Args:
            ids: the id, or the column `[rows]`.

        Raises:
            LayoutError: an id is not legal.
        """
        if not self.layout.serial:
            self._push_column(np.asarray(ids))
            return
        ids = int(ids)
        legal = self.legal()
        if not 0 <= ids < len(legal) or not legal[ids]:
            raise LayoutError(f"id {ids} is not legal after {self.codes} codes")
        own = ids - self.layout.offset
        if self._n < 0:
            self._n = 0
        elif own == END:
            self.done = True
        elif own >= NONE:
            walked = self._walk(self._books(own - NONE))
            assert walked is not None
            self._n, self._frames = walked

    def settle(self, column: np.ndarray) -> np.ndarray:
        """Return a drawn column `[rows]`, with `pad` in rows that end at this step.

        All rows are drawn at once, so a row without delay is drawn before it is known whether the
        first row ends.
        """
        order = cast("Rows", self.layout.order)
        if column[0] != END or order.phased:
            return column
        return np.where((order.delays == 0) & (np.arange(len(column)) > 0), PAD, column)

    # -- one row --------------------------------------------------------------------------------

    def _nexts(self, n: int, frames: int | None) -> list[tuple[int, int | None]]:
        """Return possible codebooks of the next code, each with the number of frames it implies.

        The number of codebooks stands for `end`.
        """
        order = cast("Serial", self.layout.order)
        end, head = order.codebooks, order.groups[0]
        if frames is not None:
            return [(end if n == end * frames else order.codebook_at(n, frames), frames)]
        nexts: list[tuple[int, int | None]] = [(order.codebook_at(n, None), None)]
        if n % head == 0:
            nexts.append((end, n // head) if order.streams or n == 0 else (head, n // head))
        return nexts

    def _walk(self, books: tuple[int, ...]) -> tuple[int, int | None] | None:
        """Return the position after codes of these codebooks, or None if one is not legal."""
        n, frames = self._n, self._frames
        for book in books:
            for known, then in self._nexts(n, frames):
                if known == book:
                    n, frames = n + 1, then
                    break
            else:
                return None
        return n, frames

    def _books(self, piece: int) -> tuple[int, ...]:
        """Return the codebooks of the units of a piece, or of a single unit without pieces."""
        if self._kinds is not None:
            return self._kinds[1][self._kinds[0][piece]]
        return (int(np.searchsorted(self.layout.firsts, piece, "right")) - 1,)

    # -- rows -----------------------------------------------------------------------------------

    def _legal_in_rows(self) -> np.ndarray:
        """Return whether each id `[rows v]` may come next."""
        layout, order = self.layout, cast("Rows", self.layout.order)
        legal = np.zeros((order.rows, max(layout.vocabulary)), bool)
        if self._n < 0 or self.done:
            legal[:, PAD if self.done else BEGIN] = True
            return legal
        n, frames = self._n, self._frames
        for row, size in enumerate(layout.vocabulary):
            if frames is None:
                has_code = n >= order.delays[row] and not (order.phased and row)
                may_end = has_code
            else:
                frame = n - int(order.starts(frames)[row])
                has_code, may_end = 0 <= frame < frames, False
            legal[row, NONE:size] = has_code
            legal[row, PAD] = not has_code
            legal[row, END] = may_end and row == 0
        return legal

    def _push_column(self, column: np.ndarray) -> None:
        """Append a column `[rows]` of ids."""
        order = cast("Rows", self.layout.order)
        if column.shape != (order.rows,):
            raise LayoutError(f"a column has {order.rows} ids, not {list(column.shape)}")
        legal = self.legal()
        ended = self._n >= 0 and self._frames is None and column[0] == END
        if ended:
            ending = (order.delays == 0) & (not order.phased)
            legal[1:][ending[1:]] = False
            legal[1:, PAD] |= ending[1:]
        inside = (column >= 0) & (column < legal.shape[1])
        good = inside & legal[np.arange(order.rows), np.where(inside, column, 0)]
        if not good.all():
            row = int(np.flatnonzero(~good)[0])
            raise LayoutError(
                f"id {column[row]} is not legal in row {row} after {self.codes} steps"
            )
        if ended:
            self._frames = self._n
        self._n += 1
        frames = self._frames
        if frames is not None:
            self.done = self._n >= max(order.steps(frames), frames + 1)


def _kinds(layout: Layout) -> tuple[np.ndarray, list[tuple[int, ...]]]:
    """Group pieces by the codebooks of their units.

    Returns:
        The group of each piece, and the codebooks of each group.
    """
    pieces = layout.learned
    assert pieces is not None
    books = (np.searchsorted(layout.firsts, pieces.flat, "right") - 1).tolist()
    known: dict[tuple[int, ...], int] = {}
    kind = [
        known.setdefault(tuple(books[a : a + n]), len(known))
        for a, n in zip(pieces.starts.tolist(), pieces.lengths.tolist(), strict=True)
    ]
    return np.array(kind, np.int64), list(known)
