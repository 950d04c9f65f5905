"""A recording on its way through a codec in pieces: buffers, alignment, blocks of fixed size.

    pieces pushed    |--|-------|----|-|----------|   any sizes
    frames           |-----0-----|-----1-----|-----2---0000   the last one filled with silence
    blocks           |-----------------------|------------- ... 0000   filled up too

The network always runs on whole blocks, so the arithmetic, and with it every code, is the same to
the bit however a recording is cut.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from audiotok.network import Network
from audiotok.shapes import Codes, Wave

BLOCK = 128  # frames a step, offline; also keeps activations in a CPU's cache


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
        self._state, self._batch = codec.start_latent(batch), batch
        self._held: Tensor | None = None
        self._skip = codec.early

    @torch.no_grad()
    def push(self, wave: Wave) -> Codes:
        """The codes that these samples complete; often none."""
        codec = self.codec
        if self._held is None:
            self._held = wave.new_zeros(self._batch, codec.channels, codec.ahead)
        self.samples += wave.shape[2]
        self._held = torch.cat([self._held, wave], 2)
        made = []
        while self._held.shape[2] >= self.block * codec.frame_size:
            made.append(self._step(self._held))
        return self._join(made)

    @torch.no_grad()
    def finish(self) -> Codes:
        """The codes of what is left: every begun frame counts, filled up with silence."""
        made = []
        while self._held is not None and self._left():
            made.append(self._step(self._held))
        return self._join(made)

    def _step(self, held: Tensor) -> Codes:
        size = self.block * self.codec.frame_size
        wave = F.pad(held[:, :, :size], (0, max(0, size - held.shape[2])))
        self._held = held[:, :, size:]
        latent, self._state = self.codec.step_latent(wave, self._state)
        codes = self.codec.quantizer.encode(latent, self.codebooks)
        # What is filled up makes frames past the end.
        codes = codes[:, :, self._skip :][:, :, : self._left()]
        self._skip = 0
        self.frames += codes.shape[2]
        return codes

    def _left(self) -> int:
        return self.codec.frames(self.samples) - self.frames

    def _join(self, made: list[Tensor]) -> Codes:
        device = None if self._held is None else self._held.device
        none = torch.zeros(self._batch, self.codebooks, 0, dtype=torch.int64, device=device)
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
        self._state, self._batch = codec.start_wave(batch), batch
        self._held: Tensor | None = None
        self._skip = codec.lead

    @torch.no_grad()
    def push(self, codes: Codes) -> Wave:
        """The samples that these frames complete."""
        self._held = codes if self._held is None else torch.cat([self._held, codes], 2)
        made = []
        while self._held.shape[2] >= self.block:
            made.append(self._step(self._held))
        return self._join(made)

    @torch.no_grad()
    def finish(self) -> Wave:
        """The samples that are left."""
        made = []
        if self._held is not None:
            if self._held.shape[2]:
                made.append(self._step(self._held))
            if self.codec.lead:
                made.append(self._give(self.codec.flush_wave(self._state)))
        return self._join(made)

    def _step(self, held: Tensor) -> Wave:
        frames = min(self.block, held.shape[2])
        latent = self.codec.quantizer.decode(held[:, :, :frames])
        latent = F.pad(latent, (0, self.block - frames))
        wave, self._state = self.codec.step_wave(latent, self._state, frames)
        self._held = held[:, :, frames:]
        wave, self._skip = wave[:, :, self._skip :], 0
        return self._give(wave)

    def _give(self, wave: Wave) -> Tensor:
        if self.samples is not None:
            wave = wave[:, :, : self.samples - self.given]
        self.given += wave.shape[2]
        return wave

    def _join(self, made: list[Tensor]) -> Wave:
        device = None if self._held is None else self._held.device
        none = torch.zeros(self._batch, self.codec.channels, 0, device=device)
        return torch.cat([none, *made], 2)
