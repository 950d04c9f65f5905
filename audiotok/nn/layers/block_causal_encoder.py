"""Whisper's encoder in blocks: frames see their block and those before it, within a segment.

    samples    |-- block 0 --|-- block 1 --|- 2 -|-- block 0 --|-- ...
               |---------- segment, 30 s --------|----- the next one, by itself

A block is computed once its samples are there, and in the same way whether they come at once or one
by one. The last window of its spectrum, which would look past its end, is left to the next block:
of the two causal convolutions the second, with stride 2, needs it only there.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiotok._platform.errors import InputError
from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.base import Layer, Span, State
from audiotok.nn.layers.transformer_block import TransformerBlock
from audiotok.nn.log_mel import HOP, MARGIN, mirrored, normalised, power_logs

FRAME = 2 * HOP  # samples of a frame before pooling
BEFORE = MARGIN + HOP  # samples before a block that its first window covers
SPARE = FRAME - MARGIN  # samples at its end that its last window does not cover


class BlockCausalEncoder(Layer):
    """Layer from waves `[b 1 t]` at 16 kHz to features `[b width f]`, means of `pool` frames.

    The spectrum of a block is cut off 80 dB below the loudest bin of its segment so far, or of the
    whole segment, which all its blocks then wait for.

    Args:
        bands: mel bands.
        width: features of a frame.
        heads: attention heads.
        layers: transformer blocks.
        pool: frames of 20 ms that are averaged in the end.
        block: frames of 20 ms in a block, a multiple of `pool`.
        segment: frames of 20 ms in a segment, a multiple of `pool`.
        wait: whether the loudest bin is that of the whole segment.

    Source: GLM-4-Voice, Zeng et al. 2024, arXiv:2412.02612, section 3.1; its repository at eb00ce9,
    `speech_tokenizer/modeling_whisper.py`, which looks at whole segments.

    Raises:
        ValueError: `block` or `segment` is no multiple of `pool`.
    """

    causal = False
    positions: Tensor

    def __init__(
        self,
        *,
        bands: int,
        width: int,
        heads: int,
        layers: int,
        pool: int,
        block: int,
        segment: int,
        wait: bool = False,
    ) -> None:
        super().__init__()
        for name, frames in (("block", block), ("segment", segment)):
            if frames < 1 or frames % pool:
                raise InputError(f"{name}={frames}: a multiple of the pool of {pool} frames")
        self.bands = bands
        self.heads = heads
        self.pool = pool
        self.block = block
        self.segment = segment
        self.wait = wait
        self.consumes = pool * FRAME
        self.conv1 = nn.Conv1d(bands, width, 3)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2)
        self.register_buffer("positions", torch.zeros(segment, width))
        self.blocks = nn.ModuleList(TransformerBlock(width, heads=heads) for _ in range(layers))

    def start(self, batch: int) -> State:
        """See `Layer.start`; samples that wait, and what the segment has left so far."""
        return self.zeros(batch, 0), self._new_segment(batch)

    def _new_segment(self, batch: int) -> tuple[Tensor, Any, Any]:
        """Return the loudest bin, the inputs that convolutions see again, and keys and values."""
        width = self.conv2.in_channels
        loudest = self.zeros(batch, 1, 1) - float("inf")
        before = self.zeros(batch, self.bands, 2), self.zeros(batch, width, 1)
        none = self.zeros(batch, self.heads, 0, width // self.heads)
        return loudest, before, tuple((none, none) for _ in self.blocks)

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Layer.step`; the blocks that are complete."""
        samples, segment = torch.cat([state[0], x[:, 0]], 1), state[1]
        outputs = [x.new_zeros(len(x), self.conv2.out_channels, 0)]
        while True:
            done = self._done(segment)
            frames = min(self.segment if self.wait else self.block, self.segment - done)
            end = frames * FRAME + (BEFORE if done else 0)
            if samples.shape[1] < end:
                return torch.cat(outputs, 2), (samples, segment)
            y, segment = self._stretch(samples[:, :end], segment, seen=frames)
            outputs.append(y)
            ends = done + frames == self.segment
            samples = samples[:, end if ends else end - BEFORE :]
            segment = self._new_segment(len(x)) if ends else segment

    def finish(self, x: Features, state: State) -> Output:
        """See `Layer.finish`; silence fills up the last frame, which is attended to no further."""
        y, (samples, segment) = self.step(x, state)
        before = BEFORE if self._done(segment) else 0
        seen = -(-(samples.shape[1] - before) // FRAME)
        if not seen:
            return y
        frames = -(-seen // self.pool) * self.pool
        samples = F.pad(samples, (0, before + frames * FRAME - samples.shape[1]))
        return torch.cat([y, self._stretch(samples, segment, seen=seen)[0]], 2)

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`."""
        return self.finish(x, self.start(len(x)))

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; from the start of the segment to the end of the block."""
        size = self.segment // self.pool
        begin = first // size * size * self.consumes
        segment, frame = divmod(last, size)
        blocks = (frame * self.pool // self.block + 1) * self.block
        end = segment * self.segment + min(self.segment if self.wait else blocks, self.segment)
        return begin, end * FRAME - (0 if self.wait else SPARE) - 1

    def _done(self, segment: State) -> int:
        """Return the number of frames of the segment that are done."""
        return segment[2][0][0].shape[2]

    def _stretch(self, samples: Tensor, segment: State, *, seen: int) -> tuple[Tensor, State]:
        """Return the features of frames whose spectra are cut off at the same level.

        Args:
            samples: their samples, after `BEFORE` earlier ones unless the segment begins.
            segment: what the segment has left so far.
            seen: number of the frames that are attended to.
        """
        loudest, before, past = segment
        # A window that is centred on the end is left out. So is the one before it, but for its
        # loudness where a whole segment is at hand.
        samples = mirrored(samples, start=not self._done(segment), end=self.wait)
        samples = samples[:, : samples.shape[1] - (HOP if self.wait else SPARE)]
        logs = power_logs(samples, self.bands)
        loudest = torch.maximum(loudest, logs.amax((1, 2), keepdim=True))
        mel = normalised(logs[:, :, :-1] if self.wait else logs, loudest)
        if not self._done(segment):  # the window before the start, which convolutions see as zeros
            mel = F.pad(mel, (1, 0))
        outputs = []
        for block in mel.split(2 * self.block, 2):
            frames = block.shape[2] // 2
            y, before, past = self._encoded(block, before, past, min(seen, frames))
            outputs.append(y)
            seen -= frames
        return torch.cat(outputs, 2), (loudest, before, past)

    def _encoded(
        self, mel: Tensor, before: State, past: State, seen: int
    ) -> tuple[Tensor, State, State]:
        """Return the features of a block of the spectrum; `seen` frames are attended to."""
        done = past[0][0].shape[2]
        mel = torch.cat([before[0], mel], 2)
        x = F.gelu(self.conv1(mel))
        if not done:  # what is before the start is zero, whatever the bias
            x = F.pad(x[:, :, 1:], (1, 0))
        x = torch.cat([before[1], x], 2)
        before = mel[:, :, -2:], x[:, :, -1:]
        x = F.gelu(self.conv2(x)).transpose(1, 2)
        x = x + self.positions[done : done + x.shape[1]]
        after = []
        for block, earlier in zip(cast("list[TransformerBlock]", self.blocks), past, strict=True):
            x, keys = block.follow(x, earlier, seen=seen)
            after.append(keys)
        return x.unflatten(1, (-1, self.pool)).mean(2).transpose(1, 2), before, tuple(after)
