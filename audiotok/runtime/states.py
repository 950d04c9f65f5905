"""States of many signals: stacked into one tree of tensors, split again, and as plain tensors.

A state is None, a tensor whose first axis is the batch, or a tuple of states (`layers/base.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from audiotok._platform.shapes import State


@dataclass(frozen=True)
class Row:
    """Part of one signal in a shared state, copied only when it is needed separately.

    Attributes:
        shared: stacked state of all signals.
        index: row of this signal.
        of: number of rows.
        form: form of the state of this signal (see the function `form`).
    """

    shared: State
    index: int
    of: int
    form: Hashable

    def own_state(self) -> State:
        """Return a copy of this signal's state, which does not keep the shared state alive."""
        return _map(lambda leaf: leaf[self.index : self.index + 1].clone(), self.shared)


def split_rows(state: State, count: int) -> list[Row]:
    """Return the rows of a state of `count` signals."""
    shapes, flags = _shapes(state), _flags(state)
    return [Row(state, i, count, (shapes, tuple(f[i] for f in flags))) for i in range(count)]


def form(state: State | Row) -> Hashable:
    """Return the properties that the states of two signals must share to be stacked.

    These are the tree, the shapes and types, and the flags, which a layer may take to be the same
    for all signals.
    """
    if isinstance(state, Row):
        return state.form
    return _shapes(state), tuple(flag[0] for flag in _flags(state))


def _shapes(state: State) -> Hashable:
    if isinstance(state, tuple):
        return tuple(_shapes(part) for part in state)
    return None if state is None else (state.shape[1:], state.dtype)


def _flags(state: State) -> list[list[bool]]:
    """Return the boolean tensors `[b]` of a state, such as whether a signal is new."""
    if isinstance(state, tuple):
        return [flag for part in state for flag in _flags(part)]
    if state is None or state.dtype != torch.bool or state.ndim != 1:
        return []
    return [state.tolist()]


def stack(states: Sequence[State | Row]) -> State:
    """Stack states of the same form, of one signal each.

    If they are exactly the rows of one shared state, in order, that state is returned uncopied.
    """
    first = states[0]
    if isinstance(first, Row) and all(
        isinstance(state, Row) and state.shared is first.shared for state in states
    ):
        rows = [state.index for state in states]
        if rows == list(range(first.of)):
            return first.shared
        return _map(lambda leaf: leaf[torch.tensor(rows, device=leaf.device)], first.shared)
    separate = [state.own_state() if isinstance(state, Row) else state for state in states]
    return separate[0] if len(separate) == 1 else _stack(separate)


def select(state: State, members: slice) -> State:
    """Return the state of some signals."""
    return _map(lambda leaf: leaf[members], state)


def _map(change: Callable[[Tensor], Tensor], state: State) -> State:
    if isinstance(state, tuple):
        return tuple(_map(change, part) for part in state)
    return state if state is None else change(state)


def _stack(states: Sequence[State]) -> State:
    if isinstance(states[0], tuple):
        return tuple(_stack(parts) for parts in zip(*states, strict=True))
    return None if states[0] is None else torch.cat(list(states))


def to_tree(state: State, arrays: dict[str, np.ndarray], name: str) -> Any:
    """Return a state as JSON, with names in the place of tensors.

    Args:
        state: state to convert.
        arrays: mapping to which the tensors are added by name.
        name: prefix of their names.
    """
    if isinstance(state, tuple):
        return [to_tree(part, arrays, f"{name}.{i}") for i, part in enumerate(state)]
    if state is None:
        return None
    arrays[name] = state.cpu().contiguous().numpy()
    return name


def from_tree(node: Any, arrays: dict[str, np.ndarray], device: torch.device) -> State:
    """Return the state that `to_tree` converted, on a device."""
    if isinstance(node, list):
        return tuple(from_tree(part, arrays, device) for part in node)
    return None if node is None else torch.from_numpy(arrays[node].copy()).to(device)
