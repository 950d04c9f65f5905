"""Coding session in torch: a batch of signals, its input buffer and state, and a step in parts."""

from __future__ import annotations

from collections.abc import Hashable
from copy import copy
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from audiotok.runtime import states
from audiotok.runtime.buffer import InputBuffer
from audiotok.runtime.states import Row

if TYPE_CHECKING:
    from audiotok._platform.shapes import State
    from audiotok.runtime.base import Executor

S = TypeVar("S", bound="CodingSession")

PARTS = 8  # sizes that a last block may have


def last_block(left: int, block: int) -> int:
    """Return the frames in the last block of a signal: `left`, rounded up to an eighth of `block`.

    It depends on the position of the end alone, so the arithmetic, and with it every code, does
    too. So few sizes are used because rounding may depend on the size (of a matrix product): that
    no code changes can then be shown for each, and each is one shape of graphs and caches.

    Args:
        left: frames of the signal that no earlier block holds.
        block: frames in the blocks before, and at most in this one.
    """
    unit = max(1, block // PARTS)
    return min(block, -(-left // unit) * unit)


class CodingSession:
    """Common part of encoding and decoding: a batch of signals, its position, input and state.

    Args:
        codec: executor of the codec.
        batch: number of signals that run together.
        block: frames per step; those of the codec if None.
        skip: number of outputs to drop at the start.

    Attributes:
        row: state after the last step, possibly shared with other sessions (`states.Row`); None
            before the first step.
        left: frames that are still to run, once that is known: at the end of the signal.
    """

    counters: ClassVar[tuple[str, ...]] = ()  # attributes that hold the position in the signal

    def __init__(self, codec: Executor, batch: int, block: int | None, skip: int) -> None:
        self.codec = codec
        self.block = block or codec.block
        self.row: State | Row = None
        self.skip = skip
        self.left: int | None = None
        self._batch = batch
        self._input = InputBuffer()
        self._device = torch.device("cpu")

    @torch.no_grad()
    def push(self, x: Tensor, /) -> Tensor:
        """Return the outputs that a further piece `[b d n]` completes; often none."""
        self.append(x)
        outputs = []
        while self.ready():
            outputs.append(self._step())
        return self.join(outputs)

    def finish(self) -> Tensor:
        """Return the remaining outputs at the end of the signal."""
        raise NotImplementedError

    @property
    def state(self) -> State:
        """State after the last step, of this batch alone; None before the first step."""
        if isinstance(self.row, Row):
            self.row = self.row.own_state()
        return self.row

    # -- a step in parts, so that those of many sessions can run together (`batching`) -------------

    def append(self, x: Tensor) -> None:
        """Add a further piece to the input buffer."""
        self._device = x.device
        self._input.push(x)

    def ready(self) -> bool:
        """Return whether there is enough input for a step."""
        return self._input.size >= self.step_size()

    def step_size(self) -> int:
        """Return the input size of the next step: samples to encode, frames to decode."""
        raise NotImplementedError

    @property
    def batch_key(self) -> Hashable:
        """Key that sessions must share to step together, besides the form of their states."""
        raise NotImplementedError

    def take_input(self) -> Tensor:
        """Take the input `[b d step_size]` of the next step, filled up with zeros at the end."""
        size = self.step_size()
        x = self._input.take(size)
        return F.pad(x, (0, size - x.shape[2]))

    def run(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Run a step of the codec, from the start if the state is None."""
        raise NotImplementedError

    def trim(self, output: Tensor) -> Tensor:
        """Return the part of the output of a step that belongs to the signal."""
        raise NotImplementedError

    def join(self, outputs: list[Tensor]) -> Tensor:
        """Concatenate outputs; an empty tensor of the right shape if there are none."""
        raise NotImplementedError

    def _step(self) -> Tensor:
        output, self.row = self.run(self.take_input(), self.state)
        return self.trim(output)

    def _step_frames(self) -> int:
        frames = self.block if self.left is None else last_block(self.left, self.block)
        return frames if self.row is not None else max(frames, self.codec.first_frames)

    # -- snapshots and parts of a batch ------------------------------------------------------------

    def dump(self, tensors: dict[str, Tensor], name: str) -> dict[str, Any]:
        """Return the session's position and state as JSON for `restore`.

        Args:
            tensors: mapping to which the tensors of the session are added.
            name: prefix of their names.
        """
        content = {"state": states.to_tree(self.state, tensors, f"{name}.state"), "held": None}
        if self._input.width:
            content["held"] = f"{name}.held"
            tensors[f"{name}.held"] = self._input.peek(self._input.size)
        return content | {counter: getattr(self, counter) for counter in self.counters}

    def restore(self, content: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Set the position and state of a new session to those that `dump` returned."""
        self.row = states.from_tree(content["state"], tensors)
        if content["held"]:
            self._input.push(tensors[content["held"]])
        for counter in self.counters:
            setattr(self, counter, content[counter])

    def select(self: S, members: slice) -> S:
        """Return a session of some signals of the batch, to be continued separately."""
        other = copy(self)
        other._input = self._input.select(members)
        other.row = states.select(self.state, members)
        other._batch = len(range(self._batch)[members])
        return other
