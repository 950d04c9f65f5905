"""Interface of patterns: a one-to-one arrangement of codes `[k f]` in the cells of a grid.

There are two kinds of patterns:

    Serial   one code after another, in groups of codebooks     q0 q1 q0 q1 ... | q2 q3 q2 q3 ...
    Rows     a row for each codebook, with its own delay         q0 q0 q0 --
             ("--" is empty: the layout pads it)                 -- q1 q1 q1
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from audiotok._platform.errors import InputError


class Pattern(ABC):
    """Arrangement of codes `[k f]` in `rows` rows of steps.

    Attributes:
        codebooks: number of codebooks k.
        rows: number of rows: 1 if codes follow one another, else k.
        streams: whether the cells of a frame do not depend on later frames.
    """

    codebooks: int
    rows: int
    streams: bool

    @abstractmethod
    def cells(self, frames: int) -> np.ndarray:
        """Return the index of each cell's code in the flattened codes `[k f]`.

        Args:
            frames: number of frames f.

        Returns:
            Indices `[rows s]` into `codes.ravel()`; -1 for an empty cell.
        """

    @abstractmethod
    def passes(self, frames: int) -> np.ndarray:
        """Return the number `[k f]`, from 0, of the forward pass that predicts each code.

        Codes of one pass are predicted in parallel. A pass is a step, except in `ar_nar`.
        """

    def steps(self, frames: int) -> int:
        """Return the number of steps of `frames` frames."""
        return self.cells(frames).shape[1]

    def mask(self, frames: int) -> np.ndarray:
        """Return whether each cell `[rows s]` holds a code."""
        return self.cells(frames) >= 0


class Serial(Pattern):
    """Pattern of one row: groups of codebooks one after another, each group frame by frame.

    Args:
        groups: number of codebooks of each group.

    Raises:
        ValueError: there is no group, or a group without codebooks.
    """

    rows = 1

    def __init__(self, groups: Sequence[int]) -> None:
        if not groups or min(groups) < 1:
            raise InputError(f"groups of {list(groups)} codebooks: each needs at least one")
        self.groups = tuple(groups)
        self.codebooks = sum(groups)
        self.streams = len(groups) == 1
        self.first = np.cumsum((0, *groups))  # first codebook of each group

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
        passes = np.empty(self.codebooks * frames, np.int64)
        passes[self.cells(frames)[0]] = np.arange(passes.size)
        return passes.reshape(self.codebooks, frames)

    def codebook_at(self, n: int, frames: int | None) -> int:
        """Return the codebook of the code at a position.

        Args:
            n: the position, from 0.
            frames: number of frames; None while it is not known, when the position must be in the
                first group.
        """
        group, before = 0, 0
        while frames is not None and n >= before + self.groups[group] * frames:
            before += self.groups[group] * frames
            group += 1
        return int(self.first[group]) + (n - before) % self.groups[group]

    def frames_in(self, books: np.ndarray) -> int:
        """Return the number of frames of a sequence, incomplete ones included.

        Args:
            books: codebook of each code `[n]` of a sequence that may be cut short.
        """
        head = self.groups[0]
        if self.streams:
            return -(-len(books) // head)
        other = np.flatnonzero(books >= head)
        return -(-int(other[0] if len(other) else len(books)) // head)


class Rows(Pattern):
    """Pattern of a row for each codebook, each with a delay of its own.

    Args:
        delays: delay of each row against the first, in steps.
        phased: whether all rows but the first start after the end of the first.
        gap: empty steps between the end of the first row and the start of the others.

    Raises:
        ValueError: a delay is below 0, or the first row is delayed.
    """

    def __init__(self, delays: Sequence[int], *, phased: bool = False, gap: int = 0) -> None:
        self.delays = np.asarray(tuple(delays), np.int64)
        if not len(self.delays) or self.delays.min() < 0 or self.delays[0] or gap < 0:
            raise InputError(f"delays {list(delays)}: the first is 0 and none is below")
        self.codebooks = self.rows = len(self.delays)
        self.phased = phased
        self.gap = gap
        self.streams = not phased

    def starts(self, frames: int) -> np.ndarray:
        """Return the step `[k]` at which each row starts."""
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
        cells = np.full((self.rows, self.steps(frames)), -1, np.int64)
        every = np.arange(self.codebooks * frames).reshape(self.codebooks, frames)
        np.put_along_axis(cells, self.passes(frames), every, 1)
        return cells

    def max_frames(self, steps: int) -> int:
        """Return the largest number of frames that fit in `steps` steps."""
        spare = steps - int(self.delays.max())
        if self.phased and self.rows > 1:
            spare = (spare - self.gap) // 2
        return max(0, spare)
