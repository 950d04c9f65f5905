"""What every pattern promises: each code of `[k f]` has one cell, and every cell is found again.

A pattern is one of two kinds.

    Serial   one code after another, in groups of codebooks     q0 q1 q0 q1 ... | q2 q3 q2 q3 ...
    Rows     a row for each codebook, begun at its own step      q0 q0 q0 --
             ("--" is empty: the layout fills it up)             -- q1 q1 q1
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np


class Pattern(ABC):
    """Codes `[k f]` laid out in `rows` rows of steps.

    Attributes:
        codebooks: k.
        rows: 1 if codes follow one another, else k.
        streams: whether the cells of a frame depend on no later frame.
    """

    codebooks: int
    rows: int
    streams: bool

    @abstractmethod
    def cells(self, frames: int) -> np.ndarray:
        """Where each cell's code comes from: index into codes `[k f]` read row by row.

        Returns:
            `[rows s]`; -1 where a cell is empty.
        """

    @abstractmethod
    def passes(self, frames: int) -> np.ndarray:
        """The forward pass `[k f]`, counted from 0, of a model that predicts each code.

        Codes of one pass are predicted side by side. A step is a pass, but in `ar_nar`.
        """

    def steps(self, frames: int) -> int:
        """Steps that so many frames take."""
        return self.cells(frames).shape[1]

    def mask(self, frames: int) -> np.ndarray:
        """Which cells `[rows s]` hold a code."""
        return self.cells(frames) >= 0


class Serial(Pattern):
    """One code after another: groups of codebooks, frame by frame within a group.

    Args:
        groups: how many codebooks each group has.

    Raises:
        ValueError: a group without codebooks.
    """

    rows = 1

    def __init__(self, groups: Sequence[int]) -> None:
        if not groups or min(groups) < 1:
            raise ValueError(f"groups of {list(groups)} codebooks: each needs at least one")
        self.groups = tuple(groups)
        self.codebooks = sum(groups)
        self.streams = len(groups) == 1
        self.first = np.cumsum((0, *groups))  # codebook that each group begins with

    def cells(self, frames: int) -> np.ndarray:
        """See `Pattern.cells`."""
        time = np.arange(frames)[:, None]
        parts = [
            (np.arange(a, b) * frames + time).ravel()
            for a, b in zip(self.first, self.first[1:], strict=False)
        ]
        return np.concatenate(parts)[None]

    def passes(self, frames: int) -> np.ndarray:
        """See `Pattern.passes`."""
        made = np.empty(self.codebooks * frames, np.int64)
        made[self.cells(frames)[0]] = np.arange(made.size)
        return made.reshape(self.codebooks, frames)

    def book(self, n: int, frames: int | None) -> int:
        """The codebook of the code at position `n`; None for `frames` while they are not known.

        While they are not, the position is in the first group.
        """
        group, before = 0, 0
        while frames is not None and n >= before + self.groups[group] * frames:
            before += self.groups[group] * frames
            group += 1
        return int(self.first[group]) + (n - before) % self.groups[group]

    def frames_in(self, books: np.ndarray) -> int:
        """Frames, begun ones too, of a sequence that may be cut short, by its codebooks `[n]`."""
        head = self.groups[0]
        if self.streams:
            return -(-len(books) // head)
        other = np.flatnonzero(books >= head)
        return -(-int(other[0] if len(other) else len(books)) // head)


class Rows(Pattern):
    """A row for each codebook, begun at a step of its own.

    Args:
        delays: steps that each row begins after the first.
        phased: whether all rows but the first begin when the first has ended.
        gap: steps between its end and their beginning.

    Raises:
        ValueError: a delay below 0, or a first row that is delayed.
    """

    def __init__(self, delays: Sequence[int], *, phased: bool = False, gap: int = 0) -> None:
        self.delays = np.asarray(tuple(delays), np.int64)
        if not len(self.delays) or self.delays.min() < 0 or self.delays[0] or gap < 0:
            raise ValueError(f"delays {list(delays)}: the first is 0 and none is below")
        self.codebooks = self.rows = len(self.delays)
        self.phased, self.gap = phased, gap
        self.streams = not phased

    def starts(self, frames: int) -> np.ndarray:
        """The step `[k]` at which each row begins."""
        if not self.phased:
            return self.delays
        return self.delays + np.where(np.arange(self.rows) > 0, frames + self.gap, 0)

    def passes(self, frames: int) -> np.ndarray:
        """See `Pattern.passes`."""
        return self.starts(frames)[:, None] + np.arange(frames)

    def steps(self, frames: int) -> int:
        """See `Pattern.steps`."""
        return int(self.starts(frames).max()) + frames if frames else 0

    def cells(self, frames: int) -> np.ndarray:
        """See `Pattern.cells`."""
        made = np.full((self.rows, self.steps(frames)), -1, np.int64)
        every = np.arange(self.codebooks * frames).reshape(self.codebooks, frames)
        np.put_along_axis(made, self.passes(frames), every, 1)
        return made

    def most(self, steps: int) -> int:
        """The most frames that so many steps hold whole."""
        spare = steps - int(self.delays.max())
        if self.phased and self.rows > 1:
            spare = (spare - self.gap) // 2
        return max(0, spare)
