"""Sessions that run the graphs of an exported codec in pieces, in numpy (`sessions` in torch).

    pieces           |--|-------|----|-|----------|   of any sizes
    steps            |-----------|-----------|----|   of `block` frames; the last may be shorter

Steps are at the same positions however a recording is cut, so its codes are the same to the bit. A
recording that ends within its first step runs as a whole. Without steps in the export, all input is
buffered until the end.
"""

from __future__ import annotations

import numpy as np

from audiotok.runtime.backends.base import Backend
from audiotok.runtime.signature import GraphPlan, GraphSession


class GraphEncoding(GraphSession):
    """Session from waves `[b c t]` to codes `[b k f]`, for recordings of the same length.

    Args:
        plan: plan of the codec.
        graphs: backend with the graphs of the codec.
        batch: number of recordings.
        codebooks: number of codes of each frame to keep, from the first (all if None).
        block: frames per step; those of the codec if None.

    Attributes:
        samples: number of samples so far.
        frames: number of frames returned so far.
    """

    direction = "encoder"
    takes = "audio"
    gives = "codes"

    def __init__(
        self,
        plan: GraphPlan,
        graphs: Backend,
        batch: int = 1,
        *,
        codebooks: int | None = None,
        block: int | None = None,
    ) -> None:
        super().__init__(plan, graphs, batch, block)
        self.codebooks = codebooks or plan.codebooks
        self.samples = self.frames = 0
        # Zeros before the first sample if there are steps, and the frame that they produce.
        self._zeros = plan.frame_size - plan.look_ahead if plan.look_ahead else 0
        self._skip = 1 if plan.look_ahead else 0

    def push(self, wave: np.ndarray, /) -> np.ndarray:
        """Return the codes that these samples complete; often none."""
        return self._push(np.asarray(wave, np.float32))

    def append(self, x: np.ndarray) -> None:
        """See `GraphSession.append`."""
        super().append(x)
        self.samples += x.shape[2]

    def ready(self) -> bool:
        """See `GraphSession.ready`."""
        size = self._size + (self._zeros if self._state is None else 0)
        return self.plan.steps and size >= self._step_frames() * self.plan.frame_size

    def take_input(self) -> np.ndarray:
        """See `GraphSession.take_input`."""
        size = self._step_frames() * self.plan.frame_size
        if self._state is None and self._zeros:
            zeros = np.zeros((self.batch, self.plan.channels, self._zeros), np.float32)
            self._pieces.insert(0, zeros)
            self._size += self._zeros
        return self._take(size)

    def _frames(self, x: np.ndarray) -> int:
        return x.shape[2] // self.plan.frame_size

    def finish(self) -> np.ndarray:
        """Return the codes of the remaining samples; a frame begun counts as one."""
        left = -(-self.samples // self.plan.frame_size) - self.frames
        if not left:
            return self.join([])
        if self._state is None:
            self._skip = 0  # the graph of a whole recording pads by itself
            return self.join([self.trim(self._run("", self._take(self._size), {}))])
        frame = self.plan.frame_size
        if self.plan.fills_up:
            short = left * frame - self._size
            super().append(np.zeros((self.batch, self.plan.channels, max(0, short)), np.float32))
            return self.join([self.trim(self._step(self._take(left * frame)))])
        outputs = []
        if self._size >= frame:
            outputs.append(self.trim(self._step(self._take(self._size // frame * frame))))
        if self._size:
            outputs.append(self.trim(self._run("_finish", self._take(frame), self._state)))
        return self.join(outputs)

    def trim(self, output: np.ndarray) -> np.ndarray:
        """See `GraphSession.trim`."""
        left = -(-self.samples // self.plan.frame_size) - self.frames
        codes = output[:, : self.codebooks, self._skip :][:, :, :left]
        self._skip = 0
        self.frames += codes.shape[2]
        return codes

    def join(self, outputs: list[np.ndarray]) -> np.ndarray:
        """See `GraphSession.join`."""
        none = np.zeros((self.batch, self.codebooks, 0), np.int64)
        return np.concatenate([none, *outputs], 2)


class GraphDecoding(GraphSession):
    """Session from codes `[b k f]` of any prefix of the codebooks to waves `[b c t]`.

    Args:
        plan: plan of the codec.
        graphs: backend with the graphs of the codec.
        batch: number of recordings.
        samples: exact length of the recordings where it is known, after which the output ends.
        block: frames per step; those of the codec if None.

    Attributes:
        given: number of samples returned so far.
    """

    direction = "decoder"
    takes = "codes"
    gives = "audio"

    def __init__(
        self,
        plan: GraphPlan,
        graphs: Backend,
        batch: int = 1,
        *,
        samples: int | None = None,
        block: int | None = None,
    ) -> None:
        super().__init__(plan, graphs, batch, block)
        self.samples = samples
        self.given = 0
        self._skip = plan.look_ahead

    def push(self, codes: np.ndarray, /) -> np.ndarray:
        """Return the samples that these frames complete."""
        return self._push(codes)

    def append(self, x: np.ndarray) -> None:
        """See `GraphSession.append`."""
        missing = self.plan.codebooks - x.shape[1]  # -1 stands for a missing code
        if missing:
            x = np.concatenate([x, np.full((len(x), missing, x.shape[2]), -1)], 1)
        super().append(x)

    def ready(self) -> bool:
        """See `GraphSession.ready`."""
        return self.plan.steps and self._size >= self._step_frames()

    def take_input(self) -> np.ndarray:
        """See `GraphSession.take_input`."""
        return self._take(self._step_frames())

    def finish(self) -> np.ndarray:
        """Return the remaining samples."""
        outputs = []
        if self._state is None:
            self._skip = 0
            if self._size:
                outputs.append(self.trim(self._run("", self._take(self._size), {})))
            return self.join(outputs)
        if self._size:
            outputs.append(self.trim(self._step(self._take(self._size))))
        if self.plan.look_ahead:
            outputs.append(self.trim(self._run("_flush", None, self._state)))
        return self.join(outputs)

    def trim(self, output: np.ndarray) -> np.ndarray:
        """See `GraphSession.trim`."""
        wave = output[:, :, self._skip :]
        self._skip = 0
        if self.samples is not None:
            wave = wave[:, :, : self.samples - self.given]
        self.given += wave.shape[2]
        return wave

    def join(self, outputs: list[np.ndarray]) -> np.ndarray:
        """See `GraphSession.join`."""
        none = np.zeros((self.batch, self.plan.channels, 0), np.float32)
        return np.concatenate([none, *outputs], 2)
