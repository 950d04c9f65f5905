"""Which ids may come next, so that what a model generates is always a sequence of its layout."""

from __future__ import annotations

from typing import cast

import numpy as np

from audiotok.lm.layout.base import BEGIN, END, NONE, PAD, LayoutError
from audiotok.lm.layout.sequence import Layout
from audiotok.lm.patterns.base import Rows, Serial


class Grammar:
    """Where one sequence is, from `begin` to `end`.

    >>> grammar = Grammar(layout)
    >>> while not grammar.done:
    ...     logits[~grammar.legal()] = -inf
    ...     grammar.push(sample(logits))

    Attributes:
        done: whether `end` has come, and in rows what follows it.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout, self.done = layout, False
        self._n = -1  # codes, or steps, since `begin`; -1 before it
        self._frames: int | None = None
        self._kinds: tuple[np.ndarray, list[tuple[int, ...]]] | None = None
        if layout.learned is not None:
            self._kinds = _kinds(layout)

    @property
    def codes(self) -> int:
        """Codes so far, of one row; steps, of rows."""
        return max(0, self._n)

    def legal(self) -> np.ndarray:
        """Ids that may come next: bool `[vocabulary]`, or `[rows vocabulary]` filled with False."""
        layout = self.layout
        if not layout.serial:
            return self._legal_in_rows()
        made = np.zeros(layout.vocabulary[0], bool)
        own = made[layout.offset :]
        if self.done or self._n < 0:
            own[PAD if self.done else BEGIN] = True
            return made
        nexts = self._nexts(self._n, self._frames)
        own[END] = any(book == len(layout.books) for book, _ in nexts)
        if self._kinds is not None:
            kind, books = self._kinds
            fits = np.array([self._walk(each) is not None for each in books], bool)
            own[NONE:] = fits[kind]
            return made
        for book, _ in nexts:
            if book < len(layout.books):
                own[NONE + layout.firsts[book] : NONE + layout.firsts[book + 1]] = True
        return made

    def push(self, ids: int | np.integer | np.ndarray) -> None:
        """The id, or the column `[rows]` of ids, that came.

        Raises:
            LayoutError: it was not legal.
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
        """What stands of a column `[rows]` drawn all at once: rows that end with it are padded.

        Where nothing is delayed a row cannot know, when it is drawn, that the first one ends.
        """
        order = cast("Rows", self.layout.order)
        if column[0] != END or order.phased:
            return column
        return np.where((order.delays == 0) & (np.arange(len(column)) > 0), PAD, column)

    # -- one row --------------------------------------------------------------------------------

    def _nexts(self, n: int, frames: int | None) -> list[tuple[int, int | None]]:
        """Codebooks of the next code, each with the frames that are then known; last is `end`."""
        order = cast("Serial", self.layout.order)
        end, head = order.codebooks, order.groups[0]
        if frames is not None:
            return [(end if n == end * frames else order.book(n, frames), frames)]
        nexts: list[tuple[int, int | None]] = [(order.book(n, None), None)]
        if n % head == 0:
            nexts.append((end, n // head) if order.streams or n == 0 else (head, n // head))
        return nexts

    def _walk(self, books: tuple[int, ...]) -> tuple[int, int | None] | None:
        """The place after codes of these codebooks, or None if one is not legal."""
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
        if self._kinds is not None:
            return self._kinds[1][self._kinds[0][piece]]
        return (int(np.searchsorted(self.layout.firsts, piece, "right")) - 1,)

    # -- rows -----------------------------------------------------------------------------------

    def _legal_in_rows(self) -> np.ndarray:
        layout, order = self.layout, cast("Rows", self.layout.order)
        made = np.zeros((order.rows, max(layout.vocabulary)), bool)
        if self._n < 0 or self.done:
            made[:, PAD if self.done else BEGIN] = True
            return made
        n, frames = self._n, self._frames
        for row, size in enumerate(layout.vocabulary):
            if frames is None:
                begun = n >= order.delays[row] and not (order.phased and row)
                said = begun
            else:
                frame = n - int(order.starts(frames)[row])
                begun, said = 0 <= frame < frames, False
            made[row, NONE:size] = begun
            made[row, PAD] = not begun
            made[row, END] = said and row == 0
        return made

    def _push_column(self, column: np.ndarray) -> None:
        order = cast("Rows", self.layout.order)
        if column.shape != (order.rows,):
            raise LayoutError(f"a column has {order.rows} ids, not {list(column.shape)}")
        legal = self.legal()
        ended = self._n >= 0 and self._frames is None and column[0] == END
        if ended:
            stands = order.delays == 0
            legal[1:][stands[1:] & (not order.phased)] = False
            legal[1:, PAD] |= stands[1:] & (not order.phased)
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
    """Pieces by the codebooks of their units: the kind of each, and the codebooks of each kind."""
    pieces = layout.learned
    assert pieces is not None
    books = (np.searchsorted(layout.firsts, pieces.flat, "right") - 1).tolist()
    known: dict[tuple[int, ...], int] = {}
    kind = [
        known.setdefault(tuple(books[a : a + n]), len(known))
        for a, n in zip(pieces.starts.tolist(), pieces.lengths.tolist(), strict=True)
    ]
    return np.array(kind, np.int64), list(known)
