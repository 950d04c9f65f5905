"""Values derived from weights, kept until one of the weights changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class Derived(Generic[T]):
    """A value computed from tensors, and computed again once one of them has changed.

    It is no part of the state of the module that holds it, and not moved with it: a tensor on
    another device is another tensor.
    """

    def __init__(self) -> None:
        self._kept: tuple[object, list[Tensor], T] | None = None

    def of(self, tensors: Sequence[Tensor], compute: Callable[[], T]) -> T:
        """Return what `compute` makes of the present values of `tensors`.

        Nothing is kept in a program that is being traced, or of tensors made in inference mode,
        which do not count their changes.
        """
        if torch.compiler.is_compiling() or any(tensor.is_inference() for tensor in tensors):
            return compute()
        version = tuple((tensor.data_ptr(), tensor._version) for tensor in tensors)
        if self._kept is None or self._kept[0] != version:
            # The tensors too, so that no other is put in their place in memory.
            self._kept = version, [tensor.detach() for tensor in tensors], compute()
        return self._kept[2]
