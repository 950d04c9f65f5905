"""A signal on its way through a codec: how far it is, what it holds, and a step of it in parts."""

from __future__ import annotations

from collections.abc import Hashable
from copy import copy
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from audiotok.runtime import states
from audiotok.runtime.buffer import Held
from audiotok.runtime.states import Row

if TYPE_CHECKING:
    from audiotok._platform.shapes import State
    from audiotok.runtime.base import Executor

P = TypeVar("P", bound="Passage")


class Passage:
    """What coding and decoding have in common: a batch of signals, how far it is, what it holds.

    Args:
        codec: what codes.
        batch: how many signals run side by side.
        block: frames a step; those of the codec if None.
        skip: of what comes first, how much is dropped.
    """

    counts: ClassVar[tuple[str, ...]] = ()  # attributes that say how far it is

    def __init__(self, codec: Executor, batch: int, block: int | None, skip: int) -> None:
        self.codec, self.block = codec, block or codec.block
        self.row: State | Row = None  # no state until the first step; `state` is its own
        self._batch, self.skip = batch, skip
        self._held, self._device = Held(), torch.device("cpu")

    @torch.no_grad()
    def push(self, x: Tensor, /) -> Tensor:
        """What a further piece completes; often nothing."""
        self.hold(x)
        made = []
        while self.ready():
            made.append(self._step())
        return self.join(made)

    def finish(self) -> Tensor:
        """The rest."""
        raise NotImplementedError

    @property
    def state(self) -> State:
        """After the last step, of this batch alone; None before the first."""
        if isinstance(self.row, Row):
            self.row = self.row.alone()
        return self.row

    # -- a step in parts, so that those of many passages can run side by side (`batching`) ---------

    def hold(self, x: Tensor) -> None:
        """Keep a further piece."""
        self._device = x.device
        self._held.push(x)

    def ready(self) -> bool:
        """Whether there is enough for a step."""
        return self._held.size >= self.size()

    def size(self) -> int:
        """Samples, or frames, of the next step."""
        raise NotImplementedError

    @property
    def kind(self) -> Hashable:
        """What those that step side by side have in common, beside the form of their states."""
        raise NotImplementedError

    def take(self) -> Tensor:
        """What the next step takes, `[b d size]`; zeros where too little is left."""
        held = self._held.take(self.size())
        return F.pad(held, (0, self.size() - held.shape[2]))

    def run(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """A step of the codec, from the start if there is no state."""
        raise NotImplementedError

    def give(self, made: Tensor) -> Tensor:
        """What of a step's result belongs to the signal."""
        raise NotImplementedError

    def join(self, made: list[Tensor]) -> Tensor:
        """Results one after the other; of the right shape if there are none."""
        raise NotImplementedError

    def _step(self) -> Tensor:
        made, self.row = self.run(self.take(), self.state)
        return self.give(made)

    def _due(self) -> int:
        return self.block if self.row is not None else max(self.block, self.codec.first_frames)

    # -- leaving and coming back -------------------------------------------------------------------

    def kept(self, tensors: dict[str, Tensor], name: str) -> dict[str, Any]:
        """What `regain` needs: tensors put into `tensors` under names that begin with `name`, and
        the rest as JSON."""
        said = {"state": states.tree(self.state, tensors, f"{name}.state"), "held": None}
        if self._held.width:
            said["held"] = f"{name}.held"
            tensors[f"{name}.held"] = self._held.first(self._held.size)
        return said | {count: getattr(self, count) for count in self.counts}

    def regain(self, said: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Be, from new, where a passage was that `kept` this."""
        self.row = states.grown(said["state"], tensors)
        if said["held"]:
            self._held.push(tensors[said["held"]])
        for count in self.counts:
            setattr(self, count, said[count])

    def only(self: P, members: slice) -> P:
        """The same of some signals of the batch, to go on with apart."""
        other = copy(self)
        other._held = self._held.only(members)
        other.row = states.members(self.state, members)
        other._batch = len(range(self._batch)[members])
        return other
