"""Depthwise convolution at frame rate."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.base import Layer, Span, State


class Depthwise(Layer):
    """Depthwise convolution `[b d f]`, padded with zeros.

    It is computed as a sum of shifted products: at frame rate that is faster on a CPU than a
    grouped convolution, and it keeps the features of a frame contiguous in memory.

    Args:
        features: width d of input and output.
        kernel: number of taps.
        causal: whether all padding is before the start; if not, half of it is after the end.
    """

    def __init__(self, features: int, kernel: int, *, causal: bool = True) -> None:
        super().__init__()
        self.kernel = kernel
        self.causal = causal
        self.right = 0 if causal else (kernel - 1) // 2
        self.left = kernel - 1 - self.right
        self.weight = nn.Parameter(torch.randn(kernel, features) / kernel**0.5)
        self.bias = nn.Parameter(torch.zeros(features))

    def start(self, batch: int) -> State:
        """See `Layer.start`; the frames `[b left d]` that the next outputs depend on."""
        return self.zeros(batch, self.left, self.weight.shape[1])

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Layer.step`."""
        frames = torch.cat([state, x.transpose(1, 2)], 1)
        count = max(0, frames.shape[1] - self.kernel + 1)
        return self._convolved(frames, count), frames[:, count:]

    def finish(self, x: Features, state: State) -> Output:
        """See `Layer.finish`; zeros follow the end."""
        return self.step(F.pad(x, (0, self.right)), state)[0]

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`."""
        return self.finish(x, self.start(len(x)))

    def _convolved(self, frames: Tensor, t: int) -> Tensor:
        y = self.bias + frames[:, :t] * self.weight[0]
        for i in range(1, self.kernel):
            y = torch.addcmul(y, frames[:, i : i + t], self.weight[i])
        return y.transpose(1, 2)

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; the span of the kernel."""
        return first - self.kernel + 1 + self.right, last + self.right
