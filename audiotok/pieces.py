"""A recording on its way through a codec in pieces: buffers, alignment, blocks of fixed size.

    pieces pushed    |--|-------|----|-|----------|   any sizes
    frames           |-----0-----|-----1-----|-----2---0000   the last one filled with silence
    blocks           |-----------------------|------------- ... 0000   filled up too

The network always runs on the same blocks, so the arithmetic, and with it every code, is the same
to the bit however a recording is cut. A codec that makes an end of its own (`fills_up` is False)
gets the last block unfilled, and one that is not causal gets the whole recording in one piece.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from audiotok.layers.base import State
from audiotok.network import Network
from audiotok.shapes import Codes, Wave

BLOCK = 128  # frames a step, offline; also keeps activations in a CPU's cache


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


class Encoding:
    """Waves `[b c t]` in, codes `[b k f]` out; recordings of one length side by side.

    Args:
        codec: what encodes.
        batch: how many recordings.
        codebooks: of the codec to use (all if None).
        block: frames a step.
    """

    def __init__(
        self, codec: Network, batch: int = 1, *, codebooks: int | None = None, block: int = BLOCK
    ) -> None:
        self.codec, self.block = codec, block
        self.codebooks = codec.quantizer.check(codebooks)
        self.samples = self.frames = 0
        self._state: State = None  # until the first step
        self._batch, self._skip = batch, codec.early
        self._held, self._device = Held(), torch.device("cpu")

    @torch.no_grad()
    def push(self, wave: Wave) -> Codes:
        """The codes that these samples complete; often none."""
        codec = self.codec
        if not self.samples and codec.ahead and not self._held.size:
            self._held.push(wave.new_zeros(self._batch, codec.channels, codec.ahead))
        self._device = wave.device
        self._held.push(wave)
        self.samples += wave.shape[2]
        made = []
        while codec.causal and self._held.size >= self._need() * codec.frame_size:
            made.append(self._step())
        return self._join(made)

    @torch.no_grad()
    def finish(self) -> Codes:
        """The codes of what is left: every begun frame counts."""
        made = []
        while self._left():
            made.append(self._step() if self.codec.fills_up else self._finish())
        return self._join(made)

    def _need(self) -> int:
        """Frames of the next step."""
        return self.block if self._state is not None else max(self.block, self.codec.first_frames)

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


class Decoding:
    """Codes `[b k f]` in, waves `[b c t]` out.

    Args:
        codec: what decodes.
        batch: how many recordings.
        samples: their exact length where it is known; nothing is given past it.
        block: frames a step.
    """

    def __init__(
        self, codec: Network, batch: int = 1, *, samples: int | None = None, block: int = BLOCK
    ) -> None:
        self.codec, self.block, self.given = codec, block, 0
        self.samples = samples
        self._state: State = None  # until the first step
        self._batch, self._skip = batch, codec.lead
        self._held, self._device = Held(), torch.device("cpu")

    @torch.no_grad()
    def push(self, codes: Codes) -> Wave:
        """The samples that these frames complete."""
        self._device = codes.device
        self._held.push(codes)
        made = []
        while self.codec.causal and self._held.size >= self._need():
            made.append(self._step())
        return self._join(made)

    @torch.no_grad()
    def finish(self) -> Wave:
        """The samples that are left."""
        made = []
        if self._held.size:
            made.append(self._step() if self.codec.fills_up else self._finish())
        if self.codec.lead and self._state is not None:
            made.append(self._give(self.codec.flush_wave(self._state)))
        return self._join(made)

    def _need(self) -> int:
        """Frames of the next step."""
        return self.block if self._state is not None else max(self.block, self.codec.first_frames)

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
