"""From magnitude and phase of overlapping frames to a waveform, as Vocos has it.

    frame i          \\____________window____________/
    frame i+1              \\____________window____________/
    samples          |.....|=hop=|=hop=|=hop=...
                      trim: half of what the first window has more than a hop

`stft.Istft` is causal; this one is centred ("same" padding).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from audiotok.layers.base import Layer, Span
from audiotok.shapes import Features, Output


class FourierHead(Layer):
    """Log-magnitudes, then phases, `[b window+2 f]` to waveform `[b 1 f*hop]`.

    Args:
        hop: samples a frame.
        window: samples of the (Hann) window and of the transform; more than hop, by an even number.
        loudest: magnitudes above are cut.

    Source: Siuzdak 2023, arXiv:2306.00814, section 3; vocos 0.1.0, `ISTFTHead(padding="same")`.

    Raises:
        ValueError: a window that cannot be centred on its hop.
    """

    causal = False
    window: Tensor

    def __init__(self, hop: int, window: int, *, loudest: float = 100.0) -> None:
        super().__init__()
        if window <= hop or (window - hop) % 2:
            raise ValueError(f"window {window} cannot be centred on hop {hop}: even it out")
        self.produces, self.hop, self.size, self.loudest = hop, hop, window, loudest
        self.trim = (window - hop) // 2
        self.register_buffer("window", torch.hann_window(window), persistent=False)

    def forward(self, x: Features) -> Output:
        """Overlap, add, and divide by what the windows add up to."""
        magnitude, phase = x.transpose(1, 2).float().chunk(2, 2)
        magnitude = magnitude.exp().clamp(max=self.loudest)
        frames = torch.fft.irfft(torch.polar(magnitude, phase), self.size) * self.window
        squares = self.window.square().expand(1, x.shape[2], -1)
        return (self._added(frames) / self._added(squares)).to(x.dtype)

    def _added(self, frames: Tensor) -> Tensor:
        """`[b f window]` to `[b 1 f*hop]`."""
        steps = frames.shape[1] * self.hop
        size = (1, steps + self.size - self.hop)
        y = F.fold(frames.transpose(1, 2), size, (1, self.size), stride=(1, self.hop))
        return y[:, 0, :, self.trim : self.trim + steps]

    def reach(self, first: int, last: int) -> Span:
        """The frames whose windows cover the samples; a Hann window's first value is zero."""
        return (
            -((self.size - 1 - self.trim - first) // self.hop),
            (last + self.trim - 1) // self.hop,
        )
