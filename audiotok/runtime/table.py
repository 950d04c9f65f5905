"""States of graphs: arrays that a step updates in place, of one batch or as rows of a table.

row 0   |##|  steps     If most rows are ready, the table is run as it is, and the outputs of
row 1   |##|  steps     rows that were not ready are discarded, so that their states are
row 2   |..|  waits     unchanged. If only a few rows are ready, copies of them are run.
row 3   |##|  steps
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np

Arrays = dict[str, np.ndarray]

DENSE = 0.75  # share of rows up to the last that must be ready for a run without copies
ROWS = 16  # initial number of rows of a table


@dataclass(eq=False)
class GraphState:
    """State of a batch of signals that step together.

    Attributes:
        arrays: arrays `[b ...]` by name.
        positions: `[b]`, number of frames that each signal had so far.
    """

    arrays: Arrays
    positions: np.ndarray

    @property
    def begun(self) -> bool:
        """True if the signals had a step."""
        return bool(self.positions[0])

    def select(self, members: slice) -> GraphState:
        """Return a copy of the state of some signals."""
        arrays = {name: values[members].copy() for name, values in self.arrays.items()}
        return GraphState(arrays, self.positions[members].copy())


class TableRow:
    """State of one signal as a row of a table, which is free again when nothing refers to this."""

    def __init__(self, table: Table, index: int) -> None:
        self.table = table
        self.index = index

    begun = True

    def copy(self) -> GraphState:
        """Return a copy of the state."""
        row = slice(self.index, self.index + 1)
        return GraphState(self.table.arrays, self.table.positions).select(row)

    def __del__(self) -> None:
        self.table.free.append(self.index)


class Table:
    """States of many signals, one row each; the lowest free rows are used first.

    Args:
        like: state whose arrays give the shape of a row.

    Attributes:
        free: indices of the free rows.
        lock: held by whoever writes, as threads may step streams that once stepped together.
    """

    def __init__(self, like: GraphState) -> None:
        def rows(x: np.ndarray) -> np.ndarray:
            return np.zeros((ROWS, *x.shape[1:]), x.dtype)

        self.arrays = {name: rows(values) for name, values in like.arrays.items()}
        self.positions = rows(like.positions)
        self.free = list(range(ROWS))
        self.lock = Lock()

    def admit(self, state: GraphState) -> TableRow:
        """Return a new row with a copy of the state of one signal."""
        with self.lock:
            if not self.free:
                self._grow()
            index = min(self.free)
            self.free.remove(index)
            for name, values in self.arrays.items():
                values[index] = state.arrays[name][0]
            self.positions[index] = state.positions[0]
            return TableRow(self, index)

    def _grow(self) -> None:
        """Double the number of rows."""
        size = len(self.positions)
        self.positions = np.concatenate([self.positions, np.zeros_like(self.positions)])
        for name, values in self.arrays.items():
            self.arrays[name] = np.concatenate([values, np.zeros_like(values)])
        self.free.extend(range(size, 2 * size))


@dataclass(eq=False)
class TableRows:
    """State of signals that step together, as rows of one table in any order."""

    table: Table
    rows: Sequence[TableRow]
    begun: bool = True

    @property
    def indices(self) -> np.ndarray:
        """Index of the row of each signal."""
        return np.array([row.index for row in self.rows])


def together(states: Sequence[GraphState | TableRow]) -> TableRows:
    """Return states of one signal each as rows of one table, to which those in none are added."""
    table = next((state.table for state in states if isinstance(state, TableRow)), None)
    rows = []
    for state in states:
        if isinstance(state, TableRow) and state.table is not table:
            state = state.copy()
        if isinstance(state, GraphState):
            table = table or Table(state)
            state = table.admit(state)
        rows.append(state)
    assert table is not None  # there is at least one state
    return TableRows(table, rows)


def store_outputs(
    arrays: Arrays,
    outputs: Mapping[str, np.ndarray],
    rows: np.ndarray | slice,
    positions: np.ndarray,
    frames: int,
) -> None:
    """Store the outputs of a step in the state that it started from, in place.

    Args:
        arrays: arrays `[rows ...]` of the state by name.
        outputs: arrays by name, "next." and "new." as in `GraphPlan`.
        rows: rows of the state that took the step.
        positions: number of frames that each of them had before.
        frames: number of frames in the step.
    """
    for output, value in outputs.items():
        kind, _, name = output.partition(".")
        if kind == "next":
            arrays[name][rows] = value
        elif kind == "new":
            ring = arrays[name]
            which = np.arange(len(ring))[rows, None] if isinstance(rows, slice) else rows[:, None]
            n, slots = value.shape[2], ring.shape[2]
            late = max(0, n - slots)  # columns that later ones would overwrite at once
            to = (positions[:, None] * (n // frames) + np.arange(late, n)) % slots
            ring[which, :, to] = value[:, :, late:].transpose(0, 2, 1, 3)
