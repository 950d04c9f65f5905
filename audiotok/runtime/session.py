"""Coding session: a batch of signals, its input buffer and state, and a step in parts."""

from __future__ import annotations

from collections.abc import Hashable
from copy import copy
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from audiotok.runtime.base import A, Executor
from audiotok.runtime.buffer import ENDED, FAILED, InputBuffer

S = TypeVar("S", bound="CodingSession[Any]")

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


class CodingSession(Generic[A]):
    """Common part of encoding and decoding: a batch of signals, its position, input and state.

    Args:
        executor: executor of the codec's steps.
        batch: number of signals that run together.
        block: frames per step; those of the codec if None.
        skip: number of outputs to drop at the start.

    Attributes:
        row: state after the last step, possibly a part of a state shared with other sessions; None
            before the first step.
        left: frames that are still to run, once that is known: at the end of the signal.
    """

    counters: ClassVar[tuple[str, ...]] = ()  # attributes that hold the position in the signal

    def __init__(self, executor: Executor[A], batch: int, block: int | None, skip: int) -> None:
        self.executor = executor
        self.plan = executor.plan
        self.block = block or self.plan.block
        self.row: Any = None
        self.skip = skip
        self.left: int | None = None
        self._batch = batch
        self._input = InputBuffer(executor)

    def push(self, x: A, /) -> A:
        """Return the outputs that a further piece `[b d n]` completes; often none.

        Raises:
            ValueError: the signal has ended, or a step before this one has failed.
        """
        self.append(x)
        self.close(FAILED)
        outputs = []
        while self.ready():
            outputs.append(self.step())
        self.close("")
        return self.join(outputs)

    def finish(self) -> A:
        """Return the remaining outputs at the end of the signal; none the second time.

        Raises:
            ValueError: a step has failed.
        """
        if self._input.closed == ENDED:
            return self.join([])
        self._input.check_open()
        self.close(FAILED)
        output = self.rest()
        self.close(ENDED)
        return output

    def rest(self) -> A:
        """Return the remaining outputs, as `finish` does."""
        raise NotImplementedError

    def close(self, why: str) -> None:
        """Take no more input, for a reason to tell; take it again if that is empty.

        A step that fails leaves the session closed: the signal would go on without its input.
        """
        self._input.closed = why

    @property
    def state(self) -> Any:
        """State after the last step, of this batch alone; None before the first step."""
        if self.row is not None:
            self.row = self.executor.gather([self.row])
        return self.row

    # -- a step in parts, so that those of many sessions can run together (`batching`) -------------

    def append(self, x: A) -> None:
        """Add a further piece to the input buffer."""
        self._input.push(x)

    def ready(self) -> bool:
        """Return whether there is enough input for a step."""
        # After the end, there may be steps of no frames.
        return self.plan.steps and self._input.size >= max(1, self.step_size())

    def step_size(self) -> int:
        """Return the input size of the next step: samples to encode, frames to decode."""
        raise NotImplementedError

    @property
    def batch_key(self) -> Hashable:
        """Key that sessions must share to step together, besides the form of their states."""
        raise NotImplementedError

    def take_input(self) -> A:
        """Take the input `[b d step_size]` of the next step, filled up with zeros at the end."""
        size = self.step_size()
        x: Any = self._input.take(size)
        short = size - x.shape[2]
        if not short:
            return x
        return self.executor.join(
            [x, self.executor.zeros(x.shape[0], x.shape[1], short, like=x)], 2
        )

    def run(self, x: A, state: Any) -> tuple[A, Any]:
        """Run a step of the codec, from the start if the state is None."""
        raise NotImplementedError

    def trim(self, output: A) -> A:
        """Return the part of the output of a step that belongs to the signal."""
        raise NotImplementedError

    def join(self, outputs: list[A]) -> A:
        """Concatenate outputs; an empty array of the right shape if there are none."""
        raise NotImplementedError

    def step(self) -> A:
        """Run the next step by itself, and return its output."""
        output, self.row = self.run(self.take_input(), self.state)
        return self.trim(output)

    def _step_frames(self) -> int:
        frames = self.block if self.left is None else last_block(self.left, self.block)
        return frames if self.row is not None else max(frames, self.plan.first_frames)

    # -- snapshots and parts of a batch ------------------------------------------------------------

    def dump(self, arrays: dict[str, np.ndarray], name: str) -> dict[str, Any]:
        """Return the session's position and state as JSON for `restore`.

        Args:
            arrays: mapping to which the arrays of the session are added.
            name: prefix of their names.
        """
        executor = self.executor
        state = executor.dump(self.state, arrays, f"{name}.state")
        content = {"state": state, "held": None, "closed": self._input.closed}
        if self._input.width:
            content["held"] = f"{name}.held"
            arrays[f"{name}.held"] = executor.numpy(self._input.peek(self._input.size))
        return content | {counter: getattr(self, counter) for counter in self.counters}

    def restore(self, content: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Set the position and state of a new session to those that `dump` returned."""
        self.row = self.executor.restore(content["state"], arrays)
        if content["held"]:
            self._input.push(self.executor.array(arrays[content["held"]]))
        for counter in self.counters:
            setattr(self, counter, content[counter])
        self.close(content.get("closed", ""))  # which older snapshots do not say

    def select(self: S, members: slice) -> S:
        """Return a session of some signals of the batch, to be continued separately."""
        other = copy(self)
        other._input = self._input.select(members)
        other.row = None if self.row is None else self.executor.select(self.state, members)
        other._batch = len(range(self._batch)[members])
        return other
