"""States of many signals: side by side in one tree of tensors, apart again, and as plain tensors.

A state is None, a tensor whose first axis is the batch, or a tuple of states (`layers/base.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from audiotok._platform.shapes import State


@dataclass(frozen=True)
class Row:
    """One signal's part of a state that several share: not cut out before it is needed apart.

    Attributes:
        shared: the state of all.
        index: whose part this is.
        of: how many there are.
        form: `form` of each part.
    """

    shared: State
    index: int
    of: int
    form: Hashable

    def alone(self) -> State:
        """The state of this signal; it keeps nothing of the others alive."""
        return _each(lambda leaf: leaf[self.index : self.index + 1].clone(), self.shared)


def rows(state: State, count: int) -> list[Row]:
    """The parts of a state of `count` signals."""
    alike, flags = _shapes(state), _flags(state)
    return [Row(state, i, count, (alike, tuple(f[i] for f in flags))) for i in range(count)]


def form(state: State | Row) -> Hashable:
    """What the states of two signals must share to lie side by side: their tree, shapes and types,
    and their flags, which a layer may take to be the same for all."""
    if isinstance(state, Row):
        return state.form
    return _shapes(state), tuple(flag[0] for flag in _flags(state))


def _shapes(state: State) -> Hashable:
    if isinstance(state, tuple):
        return tuple(_shapes(part) for part in state)
    return None if state is None else (state.shape[1:], state.dtype)


def _flags(state: State) -> list[list[bool]]:
    """What says of each signal whether it has begun, say: `[b]` of bool."""
    if isinstance(state, tuple):
        return [flag for part in state for flag in _flags(part)]
    if state is None or state.dtype != torch.bool or state.ndim != 1:
        return []
    return [state.tolist()]


def beside(states: Sequence[State | Row]) -> State:
    """States of one form, a signal each, as one.

    Those that already lie side by side, in this order and with no other, are left where they are.
    """
    first = states[0]
    if isinstance(first, Row) and all(
        isinstance(state, Row) and state.shared is first.shared for state in states
    ):
        at = [state.index for state in states]
        if at == list(range(first.of)):
            return first.shared
        return _each(lambda leaf: leaf[torch.tensor(at, device=leaf.device)], first.shared)
    apart = [state.alone() if isinstance(state, Row) else state for state in states]
    return apart[0] if len(apart) == 1 else _beside(apart)


def members(state: State, which: slice) -> State:
    """The state of some signals."""
    return _each(lambda leaf: leaf[which], state)


def _each(change: Callable[[Tensor], Tensor], state: State) -> State:
    if isinstance(state, tuple):
        return tuple(_each(change, part) for part in state)
    return state if state is None else change(state)


def _beside(states: Sequence[State]) -> State:
    if isinstance(states[0], tuple):
        return tuple(_beside(parts) for parts in zip(*states, strict=True))
    return None if states[0] is None else torch.cat(list(states))


def tree(state: State, tensors: dict[str, Tensor], name: str) -> Any:
    """A state as JSON, its tensors put into `tensors` under names that begin with `name`."""
    if isinstance(state, tuple):
        return [tree(part, tensors, f"{name}.{i}") for i, part in enumerate(state)]
    if state is None:
        return None
    tensors[name] = state.contiguous()
    return name


def grown(node: Any, tensors: dict[str, Tensor]) -> State:
    """The state that `tree` took apart."""
    if isinstance(node, list):
        return tuple(grown(part, tensors) for part in node)
    return None if node is None else tensors[node]
