"""Signature of an exported codec: the plan of its graphs, and the base class of its sessions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from audiotok.runtime.backends.base import Backend

State = dict[str, np.ndarray]


@dataclass(frozen=True)
class GraphPlan:
    """Alignment of a codec's frames in time, and its initial states (see `Network`).

    Attributes:
        frame_size: samples per frame.
        channels: audio channels.
        codebooks: codes per frame.
        look_ahead: in samples, what the encoder sees past the end of a frame, and by how much
            the output of the decoder lags.
        fills_up: whether silence may follow a recording without changing any of its codes.
        first_frames: least number of frames in the first step.
        block: frames per step.
        steps: whether there are graphs of steps.
        rings: names of ring-buffer states `[b h slots d]`, which a step only reads. Any other state
            is an input by its name and an output as "next.NAME", which replaces it; a ring has an
            output "new.NAME" `[b h n d]`, a fixed number of columns per frame (Mimi: two), to be
            stored from slot (columns so far) mod slots on (`store_outputs` does so).
        encoder: dtype, and shape for one signal, of each state of the encoder, which starts at
            zero; none where a codec begins with graphs of their own.
        decoder: the same for the decoder.
    """

    frame_size: int
    channels: int
    codebooks: int
    look_ahead: int
    fills_up: bool
    first_frames: int
    block: int
    steps: bool
    rings: tuple[str, ...] = ()
    encoder: Mapping[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    decoder: Mapping[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)

    def start(self, direction: str, batch: int) -> State:
        """Return the states before the first step.

        Args:
            direction: "encoder" or "decoder".
            batch: number of signals.
        """
        kinds = getattr(self, direction).items()
        return {name: np.zeros((batch, *shape), dtype) for name, (dtype, shape) in kinds}


def store_outputs(
    state: State,
    outputs: Mapping[str, np.ndarray],
    rows: np.ndarray | slice,
    positions: np.ndarray,
    frames: int,
) -> None:
    """Store the outputs of a step in the state that it started from, in place.

    Args:
        state: arrays `[rows ...]` by name.
        outputs: arrays by name, "next." and "new." as in `GraphPlan`.
        rows: rows of the state that took the step.
        positions: number of frames that each of them had before.
        frames: number of frames in the step.
    """
    for output, value in outputs.items():
        kind, _, name = output.partition(".")
        if kind == "next":
            state[name][rows] = value
        elif kind == "new":
            ring = state[name]
            which = np.arange(len(ring))[rows, None] if isinstance(rows, slice) else rows[:, None]
            n, slots = value.shape[2], ring.shape[2]
            late = max(0, n - slots)  # columns that later ones would overwrite at once
            to = (positions[:, None] * (n // frames) + np.arange(late, n)) % slots
            ring[which, :, to] = value[:, :, late:].transpose(0, 2, 1, 3)


class GraphSession:
    """Common part of encoding and decoding with graphs: position, input and state of signals.

    Attributes:
        direction: "encoder" or "decoder", which the names of the graphs begin with.
        takes: name of the input of the graphs.
        gives: name of their output.
        stepped: number of frames that went through steps.
        start: function that creates the state before the first step, which is updated in place.
    """

    direction: str
    takes: str
    gives: str

    def __init__(self, plan: GraphPlan, graphs: Backend, batch: int, block: int | None) -> None:
        self.plan = plan
        self.batch = batch
        self.block = block or plan.block
        self.start: Callable[[], State] = lambda: plan.start(self.direction, batch)
        self.stepped = 0
        self._graphs = graphs
        self._state: State | None = None  # until the first step
        self._pieces: list[np.ndarray] = []
        self._size = 0  # length of all pieces

    # -- a step in parts, so that those of many can run together (`batching_numpy`) ----------------

    def append(self, x: np.ndarray) -> None:
        """Add a further piece to the input buffer."""
        self._pieces.append(x)
        self._size += x.shape[2]

    def ready(self) -> bool:
        """Return whether there is enough input for a step."""
        raise NotImplementedError

    def take_input(self) -> np.ndarray:
        """Take the input of the next step from the input buffer."""
        raise NotImplementedError

    def trim(self, output: np.ndarray) -> np.ndarray:
        """Return the part of the output of a step that belongs to the signal."""
        raise NotImplementedError

    def join(self, outputs: list[np.ndarray]) -> np.ndarray:
        """Concatenate outputs; an empty array of the right shape if there are none."""
        raise NotImplementedError

    def step(self) -> np.ndarray:
        """Run the next step by itself, and return its output."""
        return self.trim(self._step(self.take_input()))

    @property
    def begun(self) -> bool:
        """True after the first step, which creates the state."""
        return self._state is not None

    def begin(self) -> State:
        """Return the state, which is created if there is none."""
        if self._state is None:
            self._state = self.start()
        return self._state

    def move(self, state: State) -> None:
        """Replace the arrays of the state by others of the same content."""
        self._state = state

    # -- inside ------------------------------------------------------------------------------------

    def _step_frames(self) -> int:
        return self.block if self._state is not None else max(self.block, self.plan.first_frames)

    def _push(self, x: np.ndarray) -> np.ndarray:
        self.append(x)
        outputs = []
        while self.ready():
            outputs.append(self.step())
        return self.join(outputs)

    def _take(self, size: int) -> np.ndarray:
        joined = self._pieces[0] if len(self._pieces) == 1 else np.concatenate(self._pieces, 2)
        self._pieces = [joined[:, :, size:]]
        self._size = joined.shape[2] - min(size, joined.shape[2])
        return joined[:, :, :size]

    def _run(self, graph: str, x: np.ndarray | None, state: State) -> np.ndarray:
        inputs = state if x is None else {self.takes: np.ascontiguousarray(x), **state}
        return self._graphs.run(f"{self.direction}{graph}", inputs)[self.gives]

    def _step(self, x: np.ndarray) -> np.ndarray:
        """Run a step on whole frames of input."""
        mirrored = not (self.begun or self.plan.fills_up)
        state = self.begin()
        graph, inputs = ("_begin", {}) if mirrored else ("_step", state)
        inputs = {self.takes: np.ascontiguousarray(x), **inputs}
        outputs = self._graphs.run(f"{self.direction}{graph}", inputs)
        frames = self._frames(x)
        store_outputs(state, outputs, slice(None), np.full(self.batch, self.stepped), frames)
        self.stepped += frames
        return outputs[self.gives]

    def _frames(self, x: np.ndarray) -> int:
        return x.shape[2]
