"""A recording on its way through a codec in pieces: buffers, alignment, blocks of fixed size.

    pieces pushed    |--|-------|----|-|----------|   any sizes
    frames           |-----0-----|-----1-----|-----2---0000   the last one filled with silence
    blocks           |-----------------------|------------- ... 0000   filled up too

The network always runs on the same blocks, so the arithmetic, and with it every code, is the same
to the bit however a recording is cut. A codec that makes an end of its own (`fills_up` is False)
gets the last block unfilled. One that looks ahead lags: a block gives what is determined by then.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import groupby

import torch
from torch import Tensor

from audiotok._platform.shapes import Codes, State, Wave
from audiotok.runtime.base import Executor
from audiotok.runtime.session import Passage


def together(passage: Passage, signals: Sequence[Tensor]) -> list[Tensor]:
    """What becomes of each signal, all side by side as long as each lasts.

    Each ends by itself: nothing is padded, so that it gets the end it has alone.

    Args:
        passage: for as many signals, before the first piece.
        signals: `[d n]` each, the shortest first.
    """
    made: list[list[Tensor]] = [[] for _ in signals]
    begin = done = 0
    for end, run in groupby(signals, key=lambda signal: signal.shape[1]):
        ended = len(list(run))
        batch = [x[:, begin:end] for x in signals[done:]]
        pieces = passage.push(torch.stack(batch) if len(batch) > 1 else batch[0][None])
        rest = passage.only(slice(ended)).finish()
        for i, piece in enumerate(pieces):
            made[done + i] += [piece, rest[i]] if i < ended else [piece]
        passage = passage.only(slice(ended, None))
        begin, done = end, done + ended
    return [torch.cat(parts, 1) for parts in made]


class Encoding(Passage):
    """Waves `[b c t]` in, codes `[b k f]` out; recordings of one length side by side.

    Args:
        codec: what encodes.
        batch: how many recordings.
        codebooks: of the codec to use (all if None).
        block: frames a step; those of the codec if None.
    """

    counts = ("skip", "samples", "frames")

    def __init__(
        self,
        codec: Executor,
        batch: int = 1,
        *,
        codebooks: int | None = None,
        block: int | None = None,
    ) -> None:
        super().__init__(codec, batch, block, codec.early)
        self.codebooks = codec.quantizer.check(codebooks)
        self.samples = self.frames = 0

    def hold(self, x: Wave) -> None:
        """Keep further samples."""
        if not self.samples and self.codec.ahead and not self._held.size:
            super().hold(x.new_zeros(self._batch, self.codec.channels, self.codec.ahead))
        super().hold(x)
        self.samples += x.shape[2]

    @torch.no_grad()
    def finish(self) -> Codes:
        """The codes of what is left: every begun frame counts."""
        made = []
        while self._left():
            made.append(self._step() if self.codec.fills_up else self._finish())
        return self.join(made)

    def size(self) -> int:
        """Samples of the next step."""
        return self._due() * self.codec.frame_size

    @property
    def kind(self) -> Hashable:
        """Samples of a step, and codebooks."""
        return "encode", self.size(), self.codebooks

    def run(self, x: Wave, state: State) -> tuple[Codes, State]:
        """Codes of whole frames."""
        state = self.codec.start_latent(len(x)) if state is None else state
        latent, state = self.codec.step_latent(x, state)
        return self.codec.quantizer.encode(latent, self.codebooks), state

    def give(self, made: Tensor) -> Tensor:
        """Not the frames of zeros before the signal, nor those of what fills up its end."""
        made = made[:, :, self.skip :][:, :, : self._left()]
        self.skip = 0
        self.frames += made.shape[2]
        return made

    def join(self, made: list[Tensor]) -> Tensor:
        """`[b k f]`."""
        none = torch.zeros(self._batch, self.codebooks, 0, dtype=torch.int64, device=self._device)
        return torch.cat([none, *made], 2)

    def _finish(self) -> Codes:
        latent = self.codec.finish_latent(self._held.take(self._held.size), self.state)
        return self.give(self.codec.quantizer.encode(latent, self.codebooks))

    def _left(self) -> int:
        return self.codec.frames(self.samples) - self.frames


class Decoding(Passage):
    """Codes `[b k f]` in, waves `[b c t]` out.

    Args:
        codec: what decodes.
        batch: how many recordings.
        samples: their exact length where it is known; nothing is given past it.
        block: frames a step; those of the codec if None.
    """

    counts = ("skip", "samples", "given")

    def __init__(
        self,
        codec: Executor,
        batch: int = 1,
        *,
        samples: int | None = None,
        block: int | None = None,
    ) -> None:
        super().__init__(codec, batch, block, codec.lead)
        self.samples, self.given = samples, 0

    @torch.no_grad()
    def finish(self) -> Wave:
        """The samples that are left."""
        made = []
        if self._held.size or (self.state is not None and not self.codec.causal):
            made.append(self._step() if self.codec.fills_up else self._finish())
        if self.codec.lead and self.state is not None:
            made.append(self.give(self.codec.flush_wave(self.state)))
        return self.join(made)

    def size(self) -> int:
        """Frames of the next step."""
        return self._due()

    @property
    def kind(self) -> Hashable:
        """Frames of a step, and codebooks."""
        return "decode", self.size(), self._held.width

    def run(self, x: Codes, state: State, frames: int | None = None) -> tuple[Wave, State]:
        """Samples of whole frames; `frames` of them are real, all if None."""
        state = self.codec.start_wave(len(x)) if state is None else state
        latent = self.codec.quantizer.decode(x)
        return self.codec.step_wave(latent, state, latent.shape[2] if frames is None else frames)

    def give(self, made: Tensor) -> Tensor:
        """Not the samples of before the start, nor any past the end where that is known."""
        made, self.skip = made[:, :, self.skip :], 0
        if self.samples is not None:
            made = made[:, :, : max(0, self.samples - self.given)]
        self.given += made.shape[2]
        return made

    def join(self, made: list[Tensor]) -> Tensor:
        """`[b c t]`."""
        none = torch.zeros(self._batch, self.codec.channels, 0, device=self._device)
        return torch.cat([none, *made], 2)

    def _step(self) -> Wave:
        frames = min(self._held.size, self.size())
        made, self.row = self.run(self.take(), self.state, frames)
        return self.give(made)

    def _finish(self) -> Wave:
        latent = self.codec.quantizer.decode(self._held.take(self._held.size))
        return self.give(self.codec.finish_wave(latent, self.state))
