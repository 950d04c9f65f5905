"""Decoding of ids to codes, up to the first id that is not valid in its position."""

from __future__ import annotations

from typing import NamedTuple, cast

import numpy as np

from audiotok.lm.layout.base import BEGIN, END, NONE, PAD, Vocabulary
from audiotok.lm.patterns.base import Rows, Serial


class DecodedIds(NamedTuple):
    """Result of decoding ids.

    Attributes:
        rows: rows `[k f]` of codes, durations included.
        units: number of codes that the ids had in all.
        problems: descriptions of what was wrong.
    """

    rows: np.ndarray
    units: int
    problems: tuple[str, ...]


def in_series(layout: Vocabulary, ids: np.ndarray, marks: bool) -> DecodedIds:
    """Decode ids `[n]` of one row.

    Args:
        layout: the layout of the ids.
        ids: the ids.
        marks: whether the codes are between `begin` and `end`.
    """
    order = cast("Serial", layout.order)
    problems: list[str] = []
    ids, after = _within(ids - layout.offset, marks, problems)
    units = ids - NONE
    bad = np.flatnonzero((units < 0) | (ids >= layout.vocabulary[0] - layout.offset))
    total = int((ids >= NONE).sum()) + after
    if len(bad):
        at = int(bad[0])
        problems.append(f"position {at + marks}: id {ids[at] + layout.offset} is no code here")
        units = units[:at]
    if layout.learned is not None:
        whole = layout.learned.units(units)
        total += len(whole) - len(units)
        units = whole
    books = np.searchsorted(layout.firsts, units, "right") - 1
    frames = order.frames_in(books)
    cells = order.cells(frames)[0]
    short = min(len(books), len(cells))
    wrong = np.flatnonzero(books[:short] != cells[:short] // max(1, frames))
    good = int(wrong[0]) if len(wrong) else short
    if good < len(books):
        problems.append(f"code {good} of the sequence is of codebook {books[good]}: out of turn")
    elif good < len(cells):
        problems.append(f"cut short: {good} codes of the {len(cells)} that {frames} frames have")
    have = np.zeros(order.codebooks * frames, bool)
    have[cells[:good]] = True
    rows = np.zeros(have.size, np.int64)
    rows[cells[:good]] = units[:good] - layout.firsts[books[:good]]
    shape = (order.codebooks, frames)
    return DecodedIds(_whole(rows.reshape(shape), have.reshape(shape)), total, tuple(problems))


def _within(ids: np.ndarray, marks: bool, problems: list[str]) -> tuple[np.ndarray, int]:
    """Return the ids between `begin` and `end`, and the number of codes after `end`."""
    if not marks:
        return ids, 0
    if len(ids) and ids[0] == BEGIN:
        ids = ids[1:]
    else:
        problems.append("it does not start with `begin`")
    ends = np.flatnonzero(ids == END)
    if not len(ends):
        problems.append("there is no `end`: it was cut short")
        return ids, 0
    after = ids[ends[0] + 1 :]
    if (after != PAD).any():
        problems.append(f"{(after != PAD).sum()} ids after `end`")
    return ids[: ends[0]], int((after >= NONE).sum())


def in_rows(layout: Vocabulary, ids: np.ndarray, marks: bool) -> DecodedIds:
    """Decode ids `[rows n]`.

    Args:
        layout: the layout of the ids.
        ids: the ids.
        marks: whether the codes are between `begin` and `end`.
    """
    order = cast("Rows", layout.order)
    problems: list[str] = []
    total = int((ids >= NONE).sum())
    if marks:
        if ids.shape[1] and (ids[:, 0] == BEGIN).all():
            ids = ids[:, 1:]
        else:
            problems.append("it does not start with `begin` in every row")
    frames = _frames(order, ids, marks, problems)
    steps = max(order.steps(frames), frames + 1 if marks else 0)
    cells = np.full((order.rows, max(steps, ids.shape[1])), -1, np.int64)
    cells[:, : order.steps(frames)] = order.cells(frames)
    fits = np.where(
        cells[:, : ids.shape[1]] < 0,
        ids == PAD,
        (ids >= NONE) & (ids < np.array(layout.vocabulary)[:, None]),
    )
    if marks and frames < ids.shape[1]:
        fits[0, frames] = ids[0, frames] == END
    wrong = np.flatnonzero(~fits.all(0))
    good = ids.shape[1]
    if len(wrong):
        good = int(wrong[0])
        row = int(np.flatnonzero(~fits[:, good])[0])
        problems.append(f"step {good + marks}, row {row}: id {ids[row, good]} is out of place")
    elif ids.shape[1] < steps and not problems:
        problems.append(f"cut short: {ids.shape[1]} of {steps} steps that {frames} frames take")
    seen = cells[:, :good]
    have = np.zeros(order.codebooks * frames, bool)
    have[seen[seen >= 0]] = True
    rows = np.zeros(have.size, np.int64)
    rows[seen[seen >= 0]] = ids[:, :good][seen >= 0] - NONE
    shape = (order.codebooks, frames)
    return DecodedIds(_whole(rows.reshape(shape), have.reshape(shape)), total, tuple(problems))


def _frames(order: Rows, ids: np.ndarray, marks: bool, problems: list[str]) -> int:
    """Return the number of frames, an incomplete last one included if they were cut short."""
    steps = ids.shape[1]
    if not marks:
        frames = order.max_frames(steps)
        if order.steps(frames) != steps:
            problems.append(f"cut short: no number of frames takes {steps} steps")
        return frames
    ends = np.flatnonzero(ids[0] == END)
    if len(ends):
        return int(ends[0])
    problems.append("there is no `end` in the first row: it was cut short")
    return steps


def _whole(rows: np.ndarray, have: np.ndarray) -> np.ndarray:
    """Return all complete frames, or all complete codebooks from the first, whichever is more."""
    frames = int(np.cumprod(have.all(0)).sum())
    books = int(np.cumprod(have.all(1)).sum())
    if have.shape[1] and books * have.shape[1] > frames * len(have):
        return rows[:books]
    return rows[:, :frames]
