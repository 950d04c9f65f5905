"""A recording in pieces through the graphs of an exported codec, in numpy (`pieces` in torch).

    pieces pushed    |--|-------|----|-|----------|   any sizes
    steps            |-----------|-----------|----|   of `block` frames; the last of what is left

Steps lie at the same places however a recording is cut, so its codes are the same to the bit. What
ends within its first step runs as a whole. An export without steps holds all until the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from audiotok.backends.base import Backend

State = dict[str, np.ndarray]


@dataclass(frozen=True)
class Plan:
    """How the frames of a codec line up in time (see `network.Network`), and what it starts from.

    Attributes:
        frame_size: samples a frame.
        channels: of audio.
        codebooks: codes a frame.
        lead: samples that the encoder sees past the end of a frame, and the decoder lags.
        fills_up: whether silence may follow a recording and change none of its codes.
        first_frames: frames that the first step needs at least.
        block: frames a step.
        steps: whether there are graphs of steps.
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
    encoder: Mapping[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    decoder: Mapping[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)

    def start(self, way: str, batch: int) -> State:
        """The states of `way` ("encoder", "decoder") before the first step of `batch` signals."""
        kinds = getattr(self, way).items()
        return {name: np.zeros((batch, *shape), dtype) for name, (dtype, shape) in kinds}


class _Passage:
    """What coding and decoding have in common; `way` names their graphs."""

    way: str
    takes: str
    gives: str

    def __init__(self, plan: Plan, graphs: Backend, batch: int, block: int | None) -> None:
        self.plan, self.batch, self.block = plan, batch, block or plan.block
        self._graphs = graphs
        self._state: State | None = None  # until the first step
        self._held: list[np.ndarray] = []
        self._size = 0  # of what is held, along time

    def _need(self) -> int:
        """Frames of the next step."""
        return self.block if self._state is not None else max(self.block, self.plan.first_frames)

    def _hold(self, x: np.ndarray) -> None:
        self._held.append(x)
        self._size += x.shape[2]

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
        graph, state = "_step", self._state
        if state is None and self.plan.fills_up:
            state = self.plan.start(self.way, self.batch)
        elif state is None:
            graph, state = "_begin", {}
        inputs = {self.takes: np.ascontiguousarray(x), **state}
        made = self._graphs.run(f"{self.way}{graph}", inputs)
        self._state = {
            name.removeprefix("next."): value
            for name, value in made.items()
            if name.startswith("next.")
        }
        return made[self.gives]


class Encoding(_Passage):
    """Waves `[b c t]` in, codes `[b k f]` out; recordings of one length side by side.

    Args:
        plan: of the codec.
        graphs: its own.
        batch: how many recordings.
        codebooks: to keep of each frame's codes (all if None).
        block: frames a step; those of the codec if None.
    """

    way, takes, gives = "encoder", "audio", "codes"

    def __init__(
        self,
        plan: Plan,
        graphs: Backend,
        batch: int = 1,
        *,
        codebooks: int | None = None,
        block: int | None = None,
    ) -> None:
        super().__init__(plan, graphs, batch, block)
        self.codebooks = codebooks or plan.codebooks
        self.samples = self.frames = 0
        # Zeros before the first sample of what is stepped, and the frame that comes of them.
        self._ahead = plan.frame_size - plan.lead if plan.lead else 0
        self._early = 1 if plan.lead else 0

    def push(self, wave: np.ndarray, /) -> np.ndarray:
        """The codes that these samples complete; often none."""
        self._hold(np.asarray(wave, np.float32))
        self.samples += wave.shape[2]
        made = []
        while self.plan.steps and self._fills(self._need() * self.plan.frame_size):
            size = self._need() * self.plan.frame_size
            if self._state is None:
                self._lead_in()
            made.append(self._give(self._step(self._take(size))))
        return self._join(made)

    def finish(self) -> np.ndarray:
        """The codes of what is left: every begun frame counts."""
        left = -(-self.samples // self.plan.frame_size) - self.frames
        if not left:
            return self._join([])
        if self._state is None:
            self._early = 0  # the whole leads in and out by itself
            return self._join([self._give(self._run("", self._take(self._size), {}))])
        frame = self.plan.frame_size
        if self.plan.fills_up:
            short = left * frame - self._size
            self._hold(np.zeros((self.batch, self.plan.channels, max(0, short)), np.float32))
            return self._join([self._give(self._step(self._take(left * frame)))])
        made = []
        if self._size >= frame:
            made.append(self._give(self._step(self._take(self._size // frame * frame))))
        if self._size:
            made.append(self._give(self._run("_finish", self._take(frame), self._state)))
        return self._join(made)

    def _fills(self, size: int) -> bool:
        ahead = self._ahead if self._state is None else 0
        return self._size + ahead >= size

    def _lead_in(self) -> None:
        if self._ahead:
            zeros = np.zeros((self.batch, self.plan.channels, self._ahead), np.float32)
            self._held.insert(0, zeros)
            self._size += self._ahead

    def _give(self, codes: np.ndarray) -> np.ndarray:
        left = -(-self.samples // self.plan.frame_size) - self.frames
        codes = codes[:, : self.codebooks, self._early :][:, :, :left]
        self._early = 0
        self.frames += codes.shape[2]
        return codes

    def _join(self, made: list[np.ndarray]) -> np.ndarray:
        none = np.zeros((self.batch, self.codebooks, 0), np.int64)
        return np.concatenate([none, *made], 2)


class Decoding(_Passage):
    """Codes `[b k f]` in, waves `[b c t]` out; of any prefix of the codebooks.

    Args:
        plan: of the codec.
        graphs: its own.
        batch: how many recordings.
        samples: their exact length where it is known; nothing is given past it.
        block: frames a step; those of the codec if None.
    """

    way, takes, gives = "decoder", "codes", "audio"

    def __init__(
        self,
        plan: Plan,
        graphs: Backend,
        batch: int = 1,
        *,
        samples: int | None = None,
        block: int | None = None,
    ) -> None:
        super().__init__(plan, graphs, batch, block)
        self.samples, self.given = samples, 0
        self._skip = plan.lead

    def push(self, codes: np.ndarray, /) -> np.ndarray:
        """The samples that these frames complete."""
        missing = self.plan.codebooks - codes.shape[1]  # -1 is no code
        self._hold(np.pad(codes, ((0, 0), (0, missing), (0, 0)), constant_values=-1))
        made = []
        while self.plan.steps and self._size >= self._need():
            made.append(self._give(self._step(self._take(self._need()))))
        return self._join(made)

    def finish(self) -> np.ndarray:
        """The samples that are left."""
        made = []
        if self._state is None:
            self._skip = 0
            if self._size:
                made.append(self._give(self._run("", self._take(self._size), {})))
            return self._join(made)
        if self._size:
            made.append(self._give(self._step(self._take(self._size))))
        if self.plan.lead:
            made.append(self._give(self._run("_flush", None, self._state)))
        return self._join(made)

    def _give(self, wave: np.ndarray) -> np.ndarray:
        wave, self._skip = wave[:, :, self._skip :], 0
        if self.samples is not None:
            wave = wave[:, :, : self.samples - self.given]
        self.given += wave.shape[2]
        return wave

    def _join(self, made: list[np.ndarray]) -> np.ndarray:
        none = np.zeros((self.batch, self.plan.channels, 0), np.float32)
        return np.concatenate([none, *made], 2)
