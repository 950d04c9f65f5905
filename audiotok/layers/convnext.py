"""ConvNeXt block at frame rate: causal depthwise convolution, then a two-layer perceptron."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audiotok.layers.base import Layer, Span, State
from audiotok.shapes import Features, Output


class Depthwise(Layer):
    """Causal depthwise convolution, `[b d f]`, zeros before the start.

    Written as a sum of shifted products: at frame rate that is faster on a CPU than a grouped
    convolution, and it keeps the features of a frame next to each other in memory.
    """

    def __init__(self, features: int, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.weight = nn.Parameter(torch.randn(kernel, features) / kernel**0.5)
        self.bias = nn.Parameter(torch.zeros(features))

    def start(self, batch: int) -> State:
        """The last `kernel - 1` frames."""
        return self.zeros(batch, self.kernel - 1, self.weight.shape[1])

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """Convolve the frames of `x` with those before them."""
        frames = torch.cat([state, x.transpose(1, 2)], 1)
        t = x.shape[2]
        y = self.bias + frames[:, :t] * self.weight[0]
        for i in range(1, self.kernel):
            y = torch.addcmul(y, frames[:, i : i + t], self.weight[i])
        return y.transpose(1, 2), frames[:, t:]

    def reach(self, first: int, last: int) -> Span:
        """Back over the kernel."""
        return first - self.kernel + 1, last


class Convnext(Layer):
    """x + scale * MLP(norm(depthwise(x))), causal (Liu et al. 2022, arXiv:2201.03545; as used in
    Vocos, arXiv:2306.00814, there non-causal).

    Args:
        features: width of input and output.
        expansion: hidden width over features.
        kernel: frames that the depthwise convolution sees.
        scale: initial value of the learnt per-feature gain on the branch.
    """

    def __init__(
        self, features: int, *, expansion: float = 3.0, kernel: int = 7, scale: float = 0.1
    ) -> None:
        super().__init__()
        hidden = int(features * expansion)
        self.depthwise = Depthwise(features, kernel)
        self.norm = nn.LayerNorm(features)
        self.up = nn.Linear(features, hidden)
        self.down = nn.Linear(hidden, features)
        self.scale = nn.Parameter(torch.full((features,), scale))

    def start(self, batch: int) -> State:
        """That of the depthwise convolution."""
        return self.depthwise.start(batch)

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """Convolve, mix, add."""
        y, state = self.depthwise.step(x, state)
        return x + self._mix(y.transpose(1, 2)).transpose(1, 2), state

    def _mix(self, y: Tensor) -> Tensor:
        return self.scale * self.down(nn.functional.gelu(self.up(self.norm(y))))

    def reach(self, first: int, last: int) -> Span:
        """That of the depthwise convolution."""
        return self.depthwise.reach(first, last)
