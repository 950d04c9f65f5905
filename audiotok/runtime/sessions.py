"""Sessions in torch that encode or decode in pieces: buffering, alignment, blocks of fixed size.

    pieces           |--|-------|----|-|----------|   of any sizes
    frames           |-----0-----|-----1-----|-----2---0000   the last one filled with silence
    blocks           |-----------------------|----------------0000   and to an eighth of a block

The network always runs on the same blocks, so the arithmetic, and with it every code, is the same
to the bit however a recording is cut. The last block is only as long as it has to be, in eighths of
a block (`session.last_block`). For a codec that handles the end itself (`fills_up` is False)
the last block is not filled up. A codec with look-ahead lags: a block gives the outputs that are
determined by then.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import groupby

import torch
from torch import Tensor

from audiotok._platform.shapes import Codes, State, Wave
from audiotok.runtime.base import Executor
from audiotok.runtime.session import CodingSession


def full_precision(device: torch.device) -> torch.autocast:
    """Disable a caller's autocast on a device, so that codes and samples are those of float32."""
    return torch.autocast(device.type, enabled=False)


def code_together(session: CodingSession, signals: Sequence[Tensor]) -> list[Tensor]:
    """Code signals of different lengths as one batch, and return the output of each.

    A signal leaves the batch at its end: nothing is padded, so that it ends as it does alone.

    Args:
        session: new session for as many signals.
        signals: one signal `[d n]` each, the shortest first.
    """
    outputs: list[list[Tensor]] = [[] for _ in signals]
    begin = done = 0
    for end, run in groupby(signals, key=lambda signal: signal.shape[1]):
        ended = len(list(run))
        batch = [x[:, begin:end] for x in signals[done:]]
        pieces = session.push(torch.stack(batch) if len(batch) > 1 else batch[0][None])
        rest = session.select(slice(ended)).finish()
        for i, piece in enumerate(pieces):
            outputs[done + i] += [piece, rest[i]] if i < ended else [piece]
        session = session.select(slice(ended, None))
        begin, done = end, done + ended
    return [torch.cat(parts, 1) for parts in outputs]


class Encoding(CodingSession):
    """Session from waves `[b c t]` to codes `[b k f]`, for recordings of the same length.

    Args:
        codec: executor of the codec.
        batch: number of recordings.
        codebooks: number of codebooks to use, from the first (all if None).
        block: frames per step; those of the codec if None.

    Attributes:
        samples: number of samples so far.
        frames: number of frames returned so far.
    """

    counters = ("skip", "samples", "frames")

    def __init__(
        self,
        codec: Executor,
        batch: int = 1,
        *,
        codebooks: int | None = None,
        block: int | None = None,
    ) -> None:
        super().__init__(codec, batch, block, codec.padding_frames)
        self.codebooks = codec.quantizer.check(codebooks)
        self.samples = self.frames = 0

    def append(self, x: Wave) -> None:
        """See `CodingSession.append`."""
        if not self.samples and self.codec.start_padding and not self._input.size:
            super().append(x.new_zeros(self._batch, self.codec.channels, self.codec.start_padding))
        super().append(x)
        self.samples += x.shape[2]

    @torch.no_grad()
    def finish(self) -> Codes:
        """Return the codes of the remaining samples; a frame begun counts as one."""
        outputs = []
        while left := self._left():
            self.left = left + self.skip
            outputs.append(self._step() if self.codec.fills_up else self._finish())
        return self.join(outputs)

    def step_size(self) -> int:
        """Return the number of samples in the next step."""
        return self._step_frames() * self.codec.frame_size

    @property
    def batch_key(self) -> Hashable:
        """Direction, samples of a step, and number of codebooks."""
        return "encode", self.step_size(), self.codebooks

    def run(self, x: Wave, state: State) -> tuple[Codes, State]:
        """Encode whole frames of samples."""
        with full_precision(x.device):
            state = self.codec.start_latent(len(x)) if state is None else state
            latent, state = self.codec.step_latent(x, state)
            return self.codec.quantizer.encode(latent, self.codebooks), state

    def trim(self, output: Tensor) -> Tensor:
        """Drop the frames of zeros before the signal, and those of padding at its end."""
        codes = output[:, :, self.skip :][:, :, : self._left()]
        self.skip = 0
        self.frames += codes.shape[2]
        return codes

    def join(self, outputs: list[Tensor]) -> Tensor:
        """See `CodingSession.join`."""
        none = torch.zeros(self._batch, self.codebooks, 0, dtype=torch.int64, device=self._device)
        return torch.cat([none, *outputs], 2)

    def _finish(self) -> Codes:
        x = self._input.take(self._input.size)
        with full_precision(x.device):
            latent = self.codec.finish_latent(x, self.state)
            return self.trim(self.codec.quantizer.encode(latent, self.codebooks))

    def _left(self) -> int:
        return self.codec.frames(self.samples) - self.frames


class Decoding(CodingSession):
    """Session from codes `[b k f]` to waves `[b c t]`.

    Args:
        codec: executor of the codec.
        batch: number of recordings.
        samples: exact length of the recordings where it is known, after which the output ends.
        block: frames per step; those of the codec if None.

    Attributes:
        given: number of samples returned so far.
    """

    counters = ("skip", "samples", "given")

    def __init__(
        self,
        codec: Executor,
        batch: int = 1,
        *,
        samples: int | None = None,
        block: int | None = None,
    ) -> None:
        super().__init__(codec, batch, block, codec.look_ahead)
        self.samples = samples
        self.given = 0

    @torch.no_grad()
    def finish(self) -> Wave:
        """Return the remaining samples."""
        outputs = []
        self.left = self._input.size
        if self.left or (self.state is not None and not self.codec.causal):
            outputs.append(self._step() if self.codec.fills_up else self._finish())
        if self.codec.look_ahead and self.state is not None:
            with full_precision(self._device):
                outputs.append(self.trim(self.codec.flush_wave(self.state)))
        return self.join(outputs)

    def step_size(self) -> int:
        """Return the number of frames in the next step."""
        return self._step_frames()

    @property
    def batch_key(self) -> Hashable:
        """Direction, frames of a step, and number of codebooks."""
        return "decode", self.step_size(), self._input.width

    def run(self, x: Codes, state: State, frames: int | None = None) -> tuple[Wave, State]:
        """Decode whole frames, of which the first `frames` are no padding (all if None)."""
        with full_precision(x.device):
            state = self.codec.start_wave(len(x)) if state is None else state
            latent = self.codec.quantizer.decode(x)
            real = latent.shape[2] if frames is None else frames
            return self.codec.step_wave(latent, state, real)

    def trim(self, output: Tensor) -> Tensor:
        """Drop the samples before the start, and those past the end where that is known."""
        wave = output[:, :, self.skip :]
        self.skip = 0
        if self.samples is not None:
            wave = wave[:, :, : max(0, self.samples - self.given)]
        self.given += wave.shape[2]
        return wave

    def join(self, outputs: list[Tensor]) -> Tensor:
        """See `CodingSession.join`."""
        none = torch.zeros(self._batch, self.codec.channels, 0, device=self._device)
        return torch.cat([none, *outputs], 2)

    def _step(self) -> Wave:
        frames = min(self._input.size, self.step_size())
        output, self.row = self.run(self.take_input(), self.state, frames)
        return self.trim(output)

    def _finish(self) -> Wave:
        x = self._input.take(self._input.size)
        with full_precision(x.device):
            latent = self.codec.quantizer.decode(x)
            return self.trim(self.codec.finish_wave(latent, self.state))
