"""A recording on its way through a codec in pieces: buffers, alignment, blocks of fixed size.

    pieces pushed    |--|-------|----|-|----------|   any sizes
    frames           |-----0-----|-----1-----|-----2---0000   the last one filled with silence
    blocks           |-----------------------|------------- ... 0000   filled up too

The network always runs on the same blocks, so the arithmetic, and with it every code, is the same
to the bit however a recording is cut. A codec that makes an end of its own (`fills_up` is False)
gets the last block unfilled. One that looks ahead lags: a block gives what is determined by then.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from itertools import groupby
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from audiotok.layers.base import State
from audiotok.network import Network
from audiotok.shapes import Codes, Wave


class Held:
    """What has arrived and not yet run, `[b d n]`: joined only when it is taken."""

    def __init__(self) -> None:
        self.size = 0
        self._pieces: list[Tensor] = []

    def push(self, x: Tensor) -> None:
        """Add a piece at the end."""
        self._pieces.append(x)
        self.size += x.shape[2]

    def take(self, size: int) -> Tensor:
        """The first `size` steps, or as many as there are."""
        # A long recording that came in one piece is not copied at every step.
        joined = self._pieces[0] if len(self._pieces) == 1 else torch.cat(self._pieces, 2)
        taken, rest = joined[:, :, :size], joined[:, :, size:]
        self._pieces, self.size = [rest], rest.shape[2]
        return taken

    def only(self, members: slice) -> Held:
        """The same of some signals of the batch."""
        held = Held()
        for piece in self._pieces:
            held.push(piece[members])
        return held


class Passage:
    """What coding and decoding have in common: a batch of signals, how far it is, what it holds.

    Args:
        codec: what codes.
        batch: how many signals run side by side.
        block: frames a step; those of the codec if None.
        skip: of what comes first, how much is dropped.
    """

    def __init__(self, codec: Network, batch: int, block: int | None, skip: int) -> None:
        self.codec, self.block = codec, block or codec.block
        self._state: State = None  # until the first step
        self._batch, self._skip = batch, skip
        self._held, self._device = Held(), torch.device("cpu")

    def push(self, x: Tensor, /) -> Tensor:
        """What a further piece completes."""
        raise NotImplementedError

    def finish(self) -> Tensor:
        """The rest."""
        raise NotImplementedError

    def _need(self) -> int:
        """Frames of the next step."""
        return self.block if self._state is not None else max(self.block, self.codec.first_frames)

    def only(self: P, members: slice) -> P:
        """The same of some signals of the batch, to go on with apart."""
        other = copy(self)
        other._held = self._held.only(members)
        other._state = _only(self._state, members)
        other._batch = len(range(self._batch)[members])
        return other


P = TypeVar("P", bound=Passage)


def _only(state: State, members: slice) -> State:
    if isinstance(state, tuple):
        return tuple(_only(part, members) for part in state)
    return state if state is None else state[members]


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

    def __init__(
        self,
        codec: Network,
        batch: int = 1,
        *,
        codebooks: int | None = None,
        block: int | None = None,
    ) -> None:
        super().__init__(codec, batch, block, codec.early)
        self.codebooks = codec.quantizer.check(codebooks)
        self.samples = self.frames = 0

    @torch.no_grad()
    def push(self, wave: Wave, /) -> Codes:
        """The codes that these samples complete; often none."""
        codec = self.codec
        if not self.samples and codec.ahead and not self._held.size:
            self._held.push(wave.new_zeros(self._batch, codec.channels, codec.ahead))
        self._device = wave.device
        self._held.push(wave)
        self.samples += wave.shape[2]
        made = []
        while self._held.size >= self._need() * codec.frame_size:
            made.append(self._step())
        return self._join(made)

    @torch.no_grad()
    def finish(self) -> Codes:
        """The codes of what is left: every begun frame counts."""
        made = []
        while self._left():
            made.append(self._step() if self.codec.fills_up else self._finish())
        return self._join(made)

    def _step(self) -> Codes:
        size = self._need() * self.codec.frame_size
        if self._state is None:
            self._state = self.codec.start_latent(self._batch)
        wave = self._held.take(size)
        wave = F.pad(wave, (0, size - wave.shape[2]))
        latent, self._state = self.codec.step_latent(wave, self._state)
        return self._give(latent)

    def _finish(self) -> Codes:
        wave = self._held.take(self._held.size)
        return self._give(self.codec.finish_latent(wave, self._state))

    def _give(self, latent: Tensor) -> Codes:
        codes = self.codec.quantizer.encode(latent, self.codebooks)
        # What is filled up makes frames past the end.
        codes = codes[:, :, self._skip :][:, :, : self._left()]
        self._skip = 0
        self.frames += codes.shape[2]
        return codes

    def _left(self) -> int:
        return self.codec.frames(self.samples) - self.frames

    def _join(self, made: list[Tensor]) -> Codes:
        none = torch.zeros(self._batch, self.codebooks, 0, dtype=torch.int64, device=self._device)
        return torch.cat([none, *made], 2)


class Decoding(Passage):
    """Codes `[b k f]` in, waves `[b c t]` out.

    Args:
        codec: what decodes.
        batch: how many recordings.
        samples: their exact length where it is known; nothing is given past it.
        block: frames a step; those of the codec if None.
    """

    def __init__(
        self,
        codec: Network,
        batch: int = 1,
        *,
        samples: int | None = None,
        block: int | None = None,
    ) -> None:
        super().__init__(codec, batch, block, codec.lead)
        self.samples, self.given = samples, 0

    @torch.no_grad()
    def push(self, codes: Codes, /) -> Wave:
        """The samples that these frames complete."""
        self._device = codes.device
        self._held.push(codes)
        made = []
        while self._held.size >= self._need():
            made.append(self._step())
        return self._join(made)

    @torch.no_grad()
    def finish(self) -> Wave:
        """The samples that are left."""
        made = []
        if self._held.size or (self._state is not None and not self.codec.causal):
            made.append(self._step() if self.codec.fills_up else self._finish())
        if self.codec.lead and self._state is not None:
            made.append(self._give(self.codec.flush_wave(self._state)))
        return self._join(made)

    def _step(self) -> Wave:
        size = self._need()
        if self._state is None:
            self._state = self.codec.start_wave(self._batch)
        latent = self.codec.quantizer.decode(self._held.take(size))
        frames = latent.shape[2]
        latent = F.pad(latent, (0, size - frames))
        wave, self._state = self.codec.step_wave(latent, self._state, frames)
        wave, self._skip = wave[:, :, self._skip :], 0
        return self._give(wave)

    def _finish(self) -> Wave:
        latent = self.codec.quantizer.decode(self._held.take(self._held.size))
        return self._give(self.codec.finish_wave(latent, self._state))

    def _give(self, wave: Wave) -> Tensor:
        if self.samples is not None:
            wave = wave[:, :, : self.samples - self.given]
        self.given += wave.shape[2]
        return wave

    def _join(self, made: list[Tensor]) -> Wave:
        none = torch.zeros(self._batch, self.codec.channels, 0, device=self._device)
        return torch.cat([none, *made], 2)
