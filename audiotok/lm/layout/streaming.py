"""Streaming conversion between codes and ids, with the results of `Layout.encode` and `decode`."""

from __future__ import annotations

from typing import cast

import numpy as np

from audiotok.lm.layout.base import BEGIN, END, NONE, PAD, LayoutError
from audiotok.lm.layout.runs import expand
from audiotok.lm.layout.sequence import Layout
from audiotok.lm.patterns.base import Rows


class EncodeStream:
    """Streaming encoder of codes `[k f]` to ids, which start with `begin` and finish with `end`.

    With runs, the ids of a run follow once it has ended. Patterns and pieces that depend on the
    whole recording (coarse_first, ar_nar, semantic_first, BPE) give all ids in `finish`.

    Args:
        layout: the layout of the ids.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._started = False
        self._streams = layout.order.streams and layout.learned is None
        # The codes of the run that has not ended, or of all frames if nothing is streamed.
        self._pending = np.zeros((len(layout.sizes), 0), np.int64)
        delay = int(cast("Rows", layout.order).delays.max()) if not layout.serial else 0
        self._tail = np.full((len(layout.books), delay), PAD - NONE, np.int64)
        self._frames = 0

    def push(self, codes: np.ndarray) -> np.ndarray:
        """Encode further codes `[k f]`, and return the ids that are complete.

        Returns:
            Ids `[n]`, or `[rows n]`.

        Raises:
            LayoutError: the codes do not fit.
        """
        self._pending = np.concatenate([self._pending, self.layout.checked(codes)], 1)
        if not self._streams:
            return self._marked(self._nothing())
        ready = self._pending.shape[1]
        if self.layout.runs != "keep" and ready:
            last = (self._pending != self._pending[:, -1:]).any(0).nonzero()[0]
            ready = int(last[-1]) + 1 if len(last) else 0
        codes = self._pending[:, :ready]
        self._pending = self._pending[:, ready:]
        return self._marked(self._ids(self.layout.ordered(codes)))

    def finish(self) -> np.ndarray:
        """Return the remaining ids, `end` included."""
        if not self._streams:
            whole = self.layout.encode(self._pending)
            return whole[..., 1:] if self._started else whole
        rows = self.layout.ordered(self._pending)
        ids = self._ids(rows)
        if self.layout.serial:
            return self._marked(np.r_[ids, self.layout.special("end")])
        delay = self._tail.shape[1] if self._frames else 0
        rest = np.full((len(self.layout.books), max(1, delay)), PAD - NONE, np.int64)
        end = self._ids(rest)
        end[0, 0] = END
        return self._marked(np.concatenate([ids, end], 1))

    def _nothing(self) -> np.ndarray:
        """Return no ids, in the shape of the layout."""
        shape = (0,) if self.layout.serial else (len(self.layout.books), 0)
        return np.zeros(shape, np.int64)

    def _marked(self, ids: np.ndarray) -> np.ndarray:
        """Return ids, preceded by `begin` if they are the first."""
        if self._started:
            return ids
        self._started = True
        if self.layout.serial:
            return np.r_[self.layout.special("begin"), ids]
        return np.concatenate([np.full((len(ids), 1), BEGIN), ids], 1)

    def _ids(self, rows: np.ndarray) -> np.ndarray:
        """Return the ids of the steps that rows `[len(books) f]` complete."""
        layout = self.layout
        self._frames += rows.shape[1]
        if layout.serial:
            return layout.numbered((rows + layout.firsts[:-1, None]).T.ravel())
        window = np.concatenate([self._tail, rows], 1)
        delay = self._tail.shape[1]
        # A row with a delay of d steps has frame s - d at step s.
        columns = np.arange(rows.shape[1]) + (delay - cast("Rows", layout.order).delays)[:, None]
        self._tail = window[:, window.shape[1] - delay :]
        return np.take_along_axis(window, columns, 1) + NONE


class DecodeStream:
    """Streaming decoder of ids to the codes `[k f]` of the frames that they complete.

    Patterns that depend on the whole recording give all codes in `finish`.

    Args:
        layout: the layout of the ids.

    Attributes:
        done: whether the sequence has ended.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.done = False
        self._shape = () if layout.serial else (len(layout.books),)
        # All ids if the pattern does not stream; else the units of an incomplete frame, or in rows
        # the steps from step number `_frames` on.
        self._pending = np.zeros((*self._shape, 0), np.int64)
        self._started = False
        self._frames = 0  # number of frames returned so far, as the pattern counts them
        self._end: int | None = None  # number of frames of the sequence, once known

    def push(self, ids: np.ndarray) -> np.ndarray:
        """Decode further ids, `[n]` or `[rows n]`, and return the codes `[k f]` they complete.

        Raises:
            LayoutError: an id is not valid in its position.
        """
        ids = np.asarray(ids, np.int64)
        if ids.shape[:-1] != self._shape:
            raise LayoutError(f"ids {list(ids.shape)}: {[*self._shape, 'n']} were expected")
        rows = np.zeros((len(self.layout.books), 0), np.int64)
        if not self.layout.order.streams:
            self._pending = np.concatenate([self._pending, ids], -1)
        elif ids.shape[-1]:
            if not self._started:
                if (ids[..., 0] != self.layout.special("begin")).any():
                    raise LayoutError("it does not start with `begin`")
                self._started = True
                ids = ids[..., 1:]
            rows = self._series(ids) if self.layout.serial else self._columns(ids)
        self._frames += rows.shape[1]
        return expand(rows[:-1], rows[-1] + 1) if self.layout.runs == "durations" else rows

    def finish(self) -> np.ndarray:
        """Return the remaining codes `[k f]`.

        Raises:
            LayoutError: the ids are cut short or damaged.
        """
        if not self.layout.order.streams:
            return self.layout.decode(self._pending)
        if not self.done:
            raise LayoutError("there is no `end`: it was cut short")
        return np.zeros((len(self.layout.sizes), 0), np.int64)

    def _series(self, ids: np.ndarray) -> np.ndarray:
        """Decode ids `[n]` of one row to the rows `[len(books) f]` of complete frames."""
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
        units = np.r_[self._pending, units]
        books = np.searchsorted(layout.firsts, units, "right") - 1
        if (books != np.arange(len(books)) % k).any():
            raise LayoutError(f"a code out of turn, after frame {self._frames}")
        whole = len(units) // k * k
        self._pending = units[whole:]
        self.done = self.done or len(ends) > 0
        if self.done and len(self._pending):
            raise LayoutError(f"`end` comes within frame {self._frames + whole // k}")
        return (units[:whole] - layout.firsts[books[:whole]]).reshape(-1, k).T

    def _columns(self, ids: np.ndarray) -> np.ndarray:
        """Decode ids `[rows n]` to the rows `[rows f]` of complete frames."""
        order = cast("Rows", self.layout.order)
        first = self._frames + self._pending.shape[1]
        ends = np.flatnonzero(ids[0] == END)
        if self._end is None and len(ends):
            self._end = first + int(ends[0])
        # The frame of each new cell, if it holds a code.
        frame = first + np.arange(ids.shape[1]) - order.delays[:, None]
        code = (frame >= 0) & (self._end is None or frame < self._end)
        sizes = np.array(self.layout.vocabulary)[:, None]
        fits = np.where(code, (ids >= NONE) & (ids < sizes), ids == PAD)
        if self._end is not None and self._end >= first:
            fits[0, self._end - first] = True
        if not fits.all():
            step = first + int(np.flatnonzero(~fits.all(0))[0])
            raise LayoutError(f"step {step}: an id that does not belong there")
        self._pending = np.concatenate([self._pending, ids], 1)
        steps = self._frames + self._pending.shape[1]
        longest = int(order.delays.max())
        if self._end is not None:
            self.done = steps >= max(order.steps(self._end), self._end + 1)
            steps = min(steps, self._end + longest)
        ready = max(0, steps - longest - self._frames)
        columns = np.arange(ready) + order.delays[:, None]
        rows = np.take_along_axis(self._pending, columns, 1) - NONE
        self._pending = self._pending[:, ready:]
        return rows
