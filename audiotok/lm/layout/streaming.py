"""Codes to ids and ids to codes as they come; the same as all at once."""

from __future__ import annotations

from typing import cast

import numpy as np

from audiotok.lm.layout.base import BEGIN, END, NONE, PAD, LayoutError
from audiotok.lm.layout.runs import expand
from audiotok.lm.layout.sequence import Layout
from audiotok.lm.patterns.base import Rows


class EncodeStream:
    """Codes `[k f]` a piece at a time to ids; with `begin` first and `end` at the end.

    A run is given once it has ended. Where the order, or pieces, take all of a recording
    (coarse_first, ar_nar, semantic_first, BPE) everything is given at the end.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._begun = False
        self._at_once = layout.order.streams and layout.learned is None
        self._held = np.zeros(
            (len(layout.sizes), 0), np.int64
        )  # the run that has not ended, or all
        delay = int(cast("Rows", layout.order).delays.max()) if not layout.serial else 0
        self._tail = np.full((len(layout.books), delay), PAD - NONE, np.int64)
        self._frames = 0

    def push(self, codes: np.ndarray) -> np.ndarray:
        """The ids, `[n]` or `[rows n]`, that codes `[k f]` complete.

        Raises:
            LayoutError: codes that do not fit.
        """
        self._held = np.concatenate([self._held, self.layout.checked(codes)], 1)
        if not self._at_once:
            return self._marked(self._nothing())
        ready = self._held.shape[1]
        if self.layout.runs != "keep" and ready:
            last = (self._held != self._held[:, -1:]).any(0).nonzero()[0]
            ready = int(last[-1]) + 1 if len(last) else 0
        codes, self._held = self._held[:, :ready], self._held[:, ready:]
        return self._marked(self._ids(self.layout.ordered(codes)))

    def finish(self) -> np.ndarray:
        """The ids that are left, with `end`."""
        if not self._at_once:
            whole = self.layout.encode(self._held)
            return whole[..., 1:] if self._begun else whole
        rows = self.layout.ordered(self._held)
        ids = self._ids(rows)
        if self.layout.serial:
            return self._marked(np.r_[ids, self.layout.special("end")])
        delay = self._tail.shape[1] if self._frames else 0
        rest = np.full((len(self.layout.books), max(1, delay)), PAD - NONE, np.int64)
        end = self._ids(rest)
        end[0, 0] = END
        return self._marked(np.concatenate([ids, end], 1))

    def _nothing(self) -> np.ndarray:
        shape = (0,) if self.layout.serial else (len(self.layout.books), 0)
        return np.zeros(shape, np.int64)

    def _marked(self, ids: np.ndarray) -> np.ndarray:
        if self._begun:
            return ids
        self._begun = True
        if self.layout.serial:
            return np.r_[self.layout.special("begin"), ids]
        return np.concatenate([np.full((len(ids), 1), BEGIN), ids], 1)

    def _ids(self, rows: np.ndarray) -> np.ndarray:
        layout = self.layout
        self._frames += rows.shape[1]
        if layout.serial:
            return layout.numbered((rows + layout.firsts[:-1, None]).T.ravel())
        window = np.concatenate([self._tail, rows], 1)
        delay = self._tail.shape[1]
        # Step s has frame s - d of a row that is d steps late.
        columns = np.arange(rows.shape[1]) + (delay - cast("Rows", layout.order).delays)[:, None]
        self._tail = window[:, window.shape[1] - delay :]
        return np.take_along_axis(window, columns, 1) + NONE


class DecodeStream:
    """Ids a piece at a time to the codes `[k f]` of the frames that they complete.

    Where the order takes all of a recording, everything is given at the end.

    Attributes:
        done: whether the sequence has ended.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout, self.done = layout, False
        self._shape = () if layout.serial else (len(layout.books),)
        # Of a whole recording its ids, of one row its units, of rows its steps from `_frames` on.
        self._held = np.zeros((*self._shape, 0), np.int64)
        self._begun = False
        self._frames = 0  # given so far, as the pattern counts them
        self._end: int | None = None  # frames there are

    def push(self, ids: np.ndarray) -> np.ndarray:
        """The codes `[k f]` that ids, `[n]` or `[rows n]`, complete.

        Raises:
            LayoutError: ids that are none of this layout's.
        """
        ids = np.asarray(ids, np.int64)
        if ids.shape[:-1] != self._shape:
            raise LayoutError(f"ids {list(ids.shape)}: {[*self._shape, 'n']} were expected")
        rows = np.zeros((len(self.layout.books), 0), np.int64)
        if not self.layout.order.streams:
            self._held = np.concatenate([self._held, ids], -1)
        elif ids.shape[-1]:
            if not self._begun:
                if (ids[..., 0] != self.layout.special("begin")).any():
                    raise LayoutError("it does not start with `begin`")
                self._begun, ids = True, ids[..., 1:]
            rows = self._series(ids) if self.layout.serial else self._columns(ids)
        self._frames += rows.shape[1]
        return expand(rows[:-1], rows[-1] + 1) if self.layout.runs == "durations" else rows

    def finish(self) -> np.ndarray:
        """The codes of what is left.

        Raises:
            LayoutError: the ids were cut short or damaged.
        """
        if not self.layout.order.streams:
            return self.layout.decode(self._held)
        if not self.done:
            raise LayoutError("there is no `end`: it was cut short")
        return np.zeros((len(self.layout.sizes), 0), np.int64)

    def _series(self, ids: np.ndarray) -> np.ndarray:
        layout, k = self.layout, len(self.layout.books)
        ids = ids - layout.offset
        ends = np.flatnonzero(ids == END)
        stop = 0 if self.done else int(ends[0]) if len(ends) else len(ids)
        codes, after = ids[:stop] - NONE, ids[stop + (not self.done) :]
        if (codes < 0).any() or (codes + NONE + layout.offset >= layout.vocabulary[0]).any():
            raise LayoutError(f"an id that is no code of this layout, after frame {self._frames}")
        if (after != PAD).any():
            raise LayoutError("ids come after `end`")
        units = codes if layout.learned is None else layout.learned.units(codes)
        units = np.r_[self._held, units]
        books = np.searchsorted(layout.firsts, units, "right") - 1
        if (books != np.arange(len(books)) % k).any():
            raise LayoutError(f"a code out of turn, after frame {self._frames}")
        whole = len(units) // k * k
        self._held, self.done = units[whole:], self.done or len(ends) > 0
        if self.done and len(self._held):
            raise LayoutError(f"`end` comes within frame {self._frames + whole // k}")
        return (units[:whole] - layout.firsts[books[:whole]]).reshape(-1, k).T

    def _columns(self, ids: np.ndarray) -> np.ndarray:
        order = cast("Rows", self.layout.order)
        first = self._frames + self._held.shape[1]
        ends = np.flatnonzero(ids[0] == END)
        if self._end is None and len(ends):
            self._end = first + int(ends[0])
        # Which frame each new cell is of, if it is a code at all.
        frame = first + np.arange(ids.shape[1]) - order.delays[:, None]
        code = (frame >= 0) & (self._end is None or frame < self._end)
        sizes = np.array(self.layout.vocabulary)[:, None]
        fits = np.where(code, (ids >= NONE) & (ids < sizes), ids == PAD)
        if self._end is not None and self._end >= first:
            fits[0, self._end - first] = True
        if not fits.all():
            step = first + int(np.flatnonzero(~fits.all(0))[0])
            raise LayoutError(f"step {step}: an id that does not belong there")
        self._held = np.concatenate([self._held, ids], 1)
        steps = self._frames + self._held.shape[1]
        longest = int(order.delays.max())
        if self._end is not None:
            self.done = steps >= max(order.steps(self._end), self._end + 1)
            steps = min(steps, self._end + longest)
        ready = max(0, steps - longest - self._frames)
        columns = np.arange(ready) + order.delays[:, None]
        rows = np.take_along_axis(self._held, columns, 1) - NONE
        self._held = self._held[:, ready:]
        return rows
