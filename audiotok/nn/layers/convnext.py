"""ConvNeXt block at frame rate: a depthwise convolution, then a two-layer perceptron."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.base import Layer, Span, State


class Depthwise(Layer):
    """Depthwise convolution, `[b d f]`, zeros before the start and, if not causal, after the end.

    Written as a sum of shifted products: at frame rate that is faster on a CPU than a grouped
    convolution, and it keeps the features of a frame next to each other in memory.
    """

    def __init__(self, features: int, kernel: int, *, causal: bool = True) -> None:
        super().__init__()
        self.kernel, self.causal = kernel, causal
        self.right = 0 if causal else (kernel - 1) // 2
        self.left = kernel - 1 - self.right
        self.weight = nn.Parameter(torch.randn(kernel, features) / kernel**0.5)
        self.bias = nn.Parameter(torch.zeros(features))

    def start(self, batch: int) -> State:
        """The frames that the next outputs see again: `[b kernel-1 d]`, at first only zeros."""
        return self.zeros(batch, self.left, self.weight.shape[1])

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """Convolve the frames of `x` with those before them."""
        frames = torch.cat([state, x.transpose(1, 2)], 1)
        made = max(0, frames.shape[1] - self.kernel + 1)
        return self._convolved(frames, made), frames[:, made:]

    def finish(self, x: Features, state: State) -> Output:
        """A step that sees zeros after the end."""
        return self.step(F.pad(x, (0, self.right)), state)[0]

    def forward(self, x: Features) -> Output:
        """The whole signal."""
        return self.finish(x, self.start(len(x)))

    def _convolved(self, frames: Tensor, t: int) -> Tensor:
        y = self.bias + frames[:, :t] * self.weight[0]
        for i in range(1, self.kernel):
            y = torch.addcmul(y, frames[:, i : i + t], self.weight[i])
        return y.transpose(1, 2)

    def reach(self, first: int, last: int) -> Span:
        """Over the kernel."""
        return first - self.kernel + 1 + self.right, last + self.right


class Convnext(Layer):
    """x + scale * MLP(norm(depthwise(x))) (Liu et al. 2022, arXiv:2201.03545; as used in Vocos,
    Siuzdak 2023, arXiv:2306.00814, there non-causal).

    Args:
        features: width of input and output.
        expansion: hidden width over features.
        kernel: frames that the depthwise convolution sees.
        scale: initial value of the learnt per-feature gain on the branch.
        causal: whether the convolution sees no later frame.
        norm: makes the normalisation of a given width, features last.
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
        self.up = nn.Linear(features, hidden)
        self.down = nn.Linear(hidden, features)
        self.scale = nn.Parameter(torch.full((features,), scale))

    def start(self, batch: int) -> State:
        """That of the depthwise convolution."""
        return self.depthwise.start(batch)

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """Convolve, mix, add."""
        y, after = self.depthwise.step(x, state)
        if not self.causal:  # what y is added to may have come before
            x = torch.cat([state.transpose(1, 2), x], 2)[:, :, self.depthwise.left :]
        return x[:, :, : y.shape[2]] + self._mixed(y), after

    def finish(self, x: Features, state: State) -> Output:
        """A step that sees zeros after the end."""
        return self.step(F.pad(x, (0, self.depthwise.right)), state)[0]

    def forward(self, x: Features) -> Output:
        """The whole signal."""
        return x + self._mixed(self.depthwise(x))

    def _mixed(self, y: Tensor) -> Tensor:
        y = self.norm(y.transpose(1, 2))
        return (self.scale * self.down(F.gelu(self.up(y)))).transpose(1, 2)

    def reach(self, first: int, last: int) -> Span:
        """That of the depthwise convolution."""
        return self.depthwise.reach(first, last)
