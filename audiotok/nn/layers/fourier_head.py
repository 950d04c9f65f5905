"""Inverse Fourier transform head of Vocos: magnitude and phase of overlapping frames to a wave.

    frame i          \\____________window____________/
    frame i+1              \\____________window____________/
    samples          |.....|=hop=|=hop=|=hop=...
                      trim: half of (window - hop)

`stft.Istft` is causal; this head is centred ("same" padding).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from audiotok._platform.errors import InputError
from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.base import Layer, Span, State


class FourierHead(Layer):
    """Head from log magnitudes, then phases, `[b 2*(window//2+1) f]` to waves `[b 1 f*hop]`.

    Args:
        hop: samples per frame.
        window: samples of the Hann window and of the transform; greater than `hop` by an even
            number.
        loudest: upper limit of magnitudes.

    Source: Siuzdak 2023, arXiv:2306.00814, section 3; vocos 0.1.0, `ISTFTHead(padding="same")`.

    Raises:
        ValueError: the window cannot be centred on the hop.
    """

    causal = False
    window: Tensor

    def __init__(self, hop: int, window: int, *, loudest: float = 100.0) -> None:
        super().__init__()
        if window <= hop or (window - hop) % 2:
            raise InputError(f"window {window} cannot be centred on hop {hop}: even it out")
        self.produces = hop
        self.hop = hop
        self.size = window
        self.loudest = loudest
        self.trim = (window - hop) // 2
        self.register_buffer("window", torch.hann_window(window), persistent=False)

    def start(self, batch: int) -> State:
        """See `Layer.start`; overlap of past frames and squared windows, and frames that wait."""
        tail = torch.zeros(batch, 2, 2 * self.trim, device=self.window.device)
        waiting = tail.new_zeros(batch, 2 * (self.size // 2 + 1), 0)
        return tail, waiting, torch.ones(batch, dtype=torch.bool, device=tail.device)

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Layer.step`; overlap-add, divided by the sum of squared windows."""
        tail, waiting, fresh = state
        if not x.shape[2]:
            return x.new_zeros(len(x), 1, 0), state
        cut = 1  # sample returned before, as the first value of the next window is zero
        if fresh.all():
            x, cut = torch.cat([waiting, x], 2), self.trim
            if x.shape[2] * self.hop < cut:
                return x.new_zeros(len(x), 1, 0), (tail, x, fresh)
        y, tail = self._added(x, tail)
        y = torch.cat([y, tail[:, :, :1]], 2)[:, :, cut:]
        after = tail, waiting[:, :, :0], torch.zeros_like(fresh)
        return (y[:, :1] / y[:, 1:]).to(x.dtype), after

    def finish(self, x: Features, state: State) -> Output:
        """See `Layer.finish`; the signal ends in the middle of the last overlap."""
        tail, waiting, fresh = state
        cut = 1
        if fresh.all():
            x, cut = torch.cat([waiting, x], 2), self.trim
        y = torch.cat(self._added(x, tail), 2)[:, :, cut : x.shape[2] * self.hop + self.trim]
        return (y[:, :1] / y[:, 1:]).to(x.dtype)

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`."""
        return self.finish(x, self.start(len(x)))

    def _added(self, x: Tensor, tail: Tensor) -> tuple[Tensor, Tensor]:
        """Overlap-add samples and squared windows, `[b 2 f*hop]` and the overlap that follows."""
        if not x.shape[2]:
            return tail[:, :, :0], tail
        magnitude, phase = x.transpose(1, 2).float().chunk(2, 2)
        magnitude = magnitude.exp().clamp(max=self.loudest)
        frames = torch.fft.irfft(torch.polar(magnitude, phase), self.size) * self.window
        squares = self.window.square().expand_as(frames)
        steps = x.shape[2] * self.hop
        y = F.fold(
            torch.stack([frames, squares], 1).flatten(0, 1).transpose(1, 2),
            (1, steps + 2 * self.trim),
            (1, self.size),
            stride=(1, self.hop),
        ).view(len(x), 2, -1)
        y = y + F.pad(tail, (0, steps))
        return y[:, :, :steps], y[:, :, steps:]

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; frames whose windows, which begin with a 0, cover samples."""
        return (
            -((self.size - 1 - self.trim - first) // self.hop),
            (last + self.trim - 1) // self.hop,
        )
