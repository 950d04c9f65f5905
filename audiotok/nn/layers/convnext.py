"""ConvNeXt block at frame rate: a depthwise convolution, then a two-layer perceptron."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.base import Layer, Span, State
from audiotok.nn.linear import Linear


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


class Convnext(Layer):
    """ConvNeXt block x + scale * MLP(norm(depthwise(x))).

    Source: Liu et al. 2022, arXiv:2201.03545; as used in Vocos, Siuzdak 2023, arXiv:2306.00814,
    there non-causal.

    Args:
        features: width of input and output.
        expansion: hidden width over features.
        kernel: taps of the depthwise convolution.
        scale: initial value of the learnt per-feature gain on the branch.
        causal: whether the convolution sees no later frame.
        norm: function that creates the normalisation of a given width, features last.
    """

    def __init__(
        self,
        features: int,
        *,
        expansion: float = 3.0,
        kernel: int = 7,
        scale: float = 0.1,
        causal: bool = True,
        norm: Callable[[int], nn.Module] = nn.LayerNorm,
    ) -> None:
        super().__init__()
        hidden = int(features * expansion)
        self.causal = causal
        self.depthwise = Depthwise(features, kernel, causal=causal)
        self.norm = norm(features)
        self.up = Linear(features, hidden)
        self.down = Linear(hidden, features)
        self.scale = nn.Parameter(torch.full((features,), scale))

    def start(self, batch: int) -> State:
        """See `Layer.start`; the state of the depthwise convolution."""
        return self.depthwise.start(batch)

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Layer.step`."""
        y, after = self.depthwise.step(x, state)
        if not self.causal:  # y is added to an earlier input, which the state may hold
            x = torch.cat([state.transpose(1, 2), x], 2)[:, :, self.depthwise.left :]
        return x[:, :, : y.shape[2]] + self._mixed(y), after

    def finish(self, x: Features, state: State) -> Output:
        """See `Layer.finish`; zeros follow the end."""
        return self.step(F.pad(x, (0, self.depthwise.right)), state)[0]

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`."""
        return x + self._mixed(self.depthwise(x))

    def _mixed(self, y: Tensor) -> Tensor:
        y = self.norm(y.transpose(1, 2))
        return (self.scale * self.down(F.gelu(self.up(y)))).transpose(1, 2)

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; the span of the depthwise convolution."""
        return self.depthwise.input_span(first, last)
