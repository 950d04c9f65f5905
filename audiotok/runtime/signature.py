"""How an exported codec is stepped: the plan of its graphs, its states, a signal on its way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from audiotok.runtime.backends.base import Backend

State = dict[str, np.ndarray]


@dataclass(frozen=True)
class Plan:
    """How the frames of a codec line up in time and what it starts from (see `Network`).

    Attributes:
        frame_size: samples a frame.
        channels: of audio.
        codebooks: codes a frame.
        lead: samples that the encoder sees past the end of a frame, and the decoder lags.
        fills_up: whether silence may follow a recording and change none of its codes.
        first_frames: frames that the first step needs at least.
        block: frames a step.
        steps: whether there are graphs of steps.
        rings: names of states `[b h slots d]` that a step only reads. A state goes into a step by
            its name and comes out as "next.NAME", to take its place; of a ring comes "new.NAME"
            `[b h n d]`, as many columns for each frame (Mimi: two), that belongs into slot
            (columns so far) mod slots and those after it (`entered` puts it there).
        encoder, decoder: dtype, and shape for one signal, of each state, which starts at zero;
            none where a codec begins by graphs of their own.
    """

    frame_size: int
    channels: int
    codebooks: int
    lead: int
    fills_up: bool
    first_frames: int
    block: int
    steps: bool
    rings: tuple[str, ...] = ()
    encoder: Mapping[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    decoder: Mapping[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)

    def start(self, way: str, batch: int) -> State:
        """The states of `way` ("encoder", "decoder") before the first step of `batch` signals."""
        kinds = getattr(self, way).items()
        return {name: np.zeros((batch, *shape), dtype) for name, (dtype, shape) in kinds}


def entered(
    state: State,
    made: Mapping[str, np.ndarray],
    rows: np.ndarray | slice,
    at: np.ndarray,
    frames: int,
) -> None:
    """Put what a step made into the state it came from, in place.

    Args:
        state: by name, `[rows ...]` each.
        made: by name, "next." and "new." as in `Plan`.
        rows: of the state, those that were stepped.
        at: frames that each of them had had before.
        frames: of the step.
    """
    for name, value in made.items():
        kind, _, name = name.partition(".")
        if kind == "next":
            state[name][rows] = value
        elif kind == "new":
            ring = state[name]
            which = np.arange(len(ring))[rows, None] if isinstance(rows, slice) else rows[:, None]
            n, slots = value.shape[2], ring.shape[2]
            late = max(0, n - slots)  # what would be written over at once
            to = (at[:, None] * (n // frames) + np.arange(late, n)) % slots
            ring[which, :, to] = value[:, :, late:].transpose(0, 2, 1, 3)


class Passage:
    """What coding and decoding have in common; `way` names their graphs.

    Attributes:
        stepped: frames that went through steps.
        start: makes the state before the first; it is written into.
    """

    way: str
    takes: str
    gives: str

    def __init__(self, plan: Plan, graphs: Backend, batch: int, block: int | None) -> None:
        self.plan, self.batch, self.block = plan, batch, block or plan.block
        self.start: Callable[[], State] = lambda: plan.start(self.way, batch)
        self.stepped = 0
        self._graphs = graphs
        self._state: State | None = None  # until the first step
        self._held: list[np.ndarray] = []
        self._size = 0  # of what is held, along time

    # -- a step in parts, so that those of many can run side by side (`batching_numpy`) -----------

    def hold(self, x: np.ndarray) -> None:
        """Keep a further piece."""
        self._held.append(x)
        self._size += x.shape[2]

    def ready(self) -> bool:
        """Whether there is enough for a step."""
        raise NotImplementedError

    def take(self) -> np.ndarray:
        """What the next step takes."""
        raise NotImplementedError

    def give(self, made: np.ndarray) -> np.ndarray:
        """What of a step's result belongs to the signal."""
        raise NotImplementedError

    def join(self, made: list[np.ndarray]) -> np.ndarray:
        """Results one after the other; of the right shape if there are none."""
        raise NotImplementedError

    def step(self) -> np.ndarray:
        """The next step, alone."""
        return self.give(self._step(self.take()))

    @property
    def begun(self) -> bool:
        """Whether there was a step."""
        return self._state is not None

    def begin(self) -> State:
        """The state, of before the first step if there was none."""
        if self._state is None:
            self._state = self.start()
        return self._state

    def move(self, state: State) -> None:
        """Its state lies elsewhere now."""
        self._state = state

    # -- inside ------------------------------------------------------------------------------------

    def _need(self) -> int:
        """Frames of the next step."""
        return self.block if self._state is not None else max(self.block, self.plan.first_frames)

    def _push(self, x: np.ndarray) -> np.ndarray:
        self.hold(x)
        made = []
        while self.ready():
            made.append(self.step())
        return self.join(made)

    def _take(self, size: int) -> np.ndarray:
        joined = self._held[0] if len(self._held) == 1 else np.concatenate(self._held, 2)
        self._held = [joined[:, :, size:]]
        self._size = joined.shape[2] - min(size, joined.shape[2])
        return joined[:, :, :size]

    def _run(self, graph: str, x: np.ndarray | None, state: State) -> np.ndarray:
        inputs = state if x is None else {self.takes: np.ascontiguousarray(x), **state}
        return self._graphs.run(f"{self.way}{graph}", inputs)[self.gives]

    def _step(self, x: np.ndarray) -> np.ndarray:
        """What whole frames of input give."""
        mirrored = not (self.begun or self.plan.fills_up)
        state = self.begin()
        graph, inputs = ("_begin", {}) if mirrored else ("_step", state)
        inputs = {self.takes: np.ascontiguousarray(x), **inputs}
        made = self._graphs.run(f"{self.way}{graph}", inputs)
        frames = self._frames(x)
        entered(state, made, slice(None), np.full(self.batch, self.stepped), frames)
        self.stepped += frames
        return made[self.gives]

    def _frames(self, x: np.ndarray) -> int:
        return x.shape[2]
