"""A recording in pieces through the graphs of an exported codec, in numpy (`sessions` in torch).

    pieces pushed    |--|-------|----|-|----------|   any sizes
    steps            |-----------|-----------|----|   of `block` frames; the last of what is left

Steps lie at the same places however a recording is cut, so its codes are the same to the bit. What
ends within its first step runs as a whole. An export without steps holds all until the end.
"""

from __future__ import annotations

import numpy as np

from audiotok.runtime.backends.base import Backend
from audiotok.runtime.signature import Passage, Plan


class Encoding(Passage):
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
        return self._push(np.asarray(wave, np.float32))

    def hold(self, x: np.ndarray) -> None:
        """See `Passage.hold`."""
        super().hold(x)
        self.samples += x.shape[2]

    def ready(self) -> bool:
        """See `Passage.ready`."""
        ahead = self._ahead if self._state is None else 0
        return self.plan.steps and self._size + ahead >= self._need() * self.plan.frame_size

    def take(self) -> np.ndarray:
        """See `Passage.take`."""
        size = self._need() * self.plan.frame_size
        if self._state is None and self._ahead:
            zeros = np.zeros((self.batch, self.plan.channels, self._ahead), np.float32)
            self._held.insert(0, zeros)
            self._size += self._ahead
        return self._take(size)

    def _frames(self, x: np.ndarray) -> int:
        return x.shape[2] // self.plan.frame_size

    def finish(self) -> np.ndarray:
        """The codes of what is left: every begun frame counts."""
        left = -(-self.samples // self.plan.frame_size) - self.frames
        if not left:
            return self.join([])
        if self._state is None:
            self._early = 0  # the whole leads in and out by itself
            return self.join([self.give(self._run("", self._take(self._size), {}))])
        frame = self.plan.frame_size
        if self.plan.fills_up:
            short = left * frame - self._size
            super().hold(np.zeros((self.batch, self.plan.channels, max(0, short)), np.float32))
            return self.join([self.give(self._step(self._take(left * frame)))])
        made = []
        if self._size >= frame:
            made.append(self.give(self._step(self._take(self._size // frame * frame))))
        if self._size:
            made.append(self.give(self._run("_finish", self._take(frame), self._state)))
        return self.join(made)

    def give(self, made: np.ndarray) -> np.ndarray:
        """See `Passage.give`."""
        left = -(-self.samples // self.plan.frame_size) - self.frames
        codes = made[:, : self.codebooks, self._early :][:, :, :left]
        self._early = 0
        self.frames += codes.shape[2]
        return codes

    def join(self, made: list[np.ndarray]) -> np.ndarray:
        """See `Passage.join`."""
        none = np.zeros((self.batch, self.codebooks, 0), np.int64)
        return np.concatenate([none, *made], 2)


class Decoding(Passage):
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
        return self._push(codes)

    def hold(self, x: np.ndarray) -> None:
        """See `Passage.hold`."""
        missing = self.plan.codebooks - x.shape[1]  # -1 is no code
        if missing:
            x = np.concatenate([x, np.full((len(x), missing, x.shape[2]), -1)], 1)
        super().hold(x)

    def ready(self) -> bool:
        """See `Passage.ready`."""
        return self.plan.steps and self._size >= self._need()

    def take(self) -> np.ndarray:
        """See `Passage.take`."""
        return self._take(self._need())

    def finish(self) -> np.ndarray:
        """The samples that are left."""
        made = []
        if self._state is None:
            self._skip = 0
            if self._size:
                made.append(self.give(self._run("", self._take(self._size), {})))
            return self.join(made)
        if self._size:
            made.append(self.give(self._step(self._take(self._size))))
        if self.plan.lead:
            made.append(self.give(self._run("_flush", None, self._state)))
        return self.join(made)

    def give(self, made: np.ndarray) -> np.ndarray:
        """See `Passage.give`."""
        wave, self._skip = made[:, :, self._skip :], 0
        if self.samples is not None:
            wave = wave[:, :, : self.samples - self.given]
        self.given += wave.shape[2]
        return wave

    def join(self, made: list[np.ndarray]) -> np.ndarray:
        """See `Passage.join`."""
        none = np.zeros((self.batch, self.plan.channels, 0), np.float32)
        return np.concatenate([none, *made], 2)
