"""ConvNeXt block at frame rate: a depthwise convolution, then a two-layer perceptron."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.base import Layer, Span, State
from audiotok.nn.layers.depthwise import Depthwise
from audiotok.nn.linear import Linear


class Convnext(Layer):
    """ConvNeXt block x + scale * MLP(norm(depthwise(x))).

    Source: Liu et al. 2022, arXiv:2201.03545; as used in Vocos, Siuzdak 2023, arXiv:2306.00814,
    there non-causal.

    Args:
        features: width of input and output.
        expansion: hidden width over features.
        hidden: hidden width itself; None for that of `expansion`.
        kernel: taps of the depthwise convolution.
        scale: initial value of the learnt per-feature gain on the branch; None for no gain.
        causal: whether the convolution sees no later frame.
        norm: function that creates the normalisation of a given width, features last.
    """

    scale: nn.Parameter | None

    def __init__(
        self,
        features: int,
        *,
        expansion: float = 3.0,
        hidden: int | None = None,
        kernel: int = 7,
        scale: float | None = 0.1,
        causal: bool = True,
        norm: Callable[[int], nn.Module] = nn.LayerNorm,
    ) -> None:
        super().__init__()
        hidden = hidden or int(features * expansion)
        self.causal = causal
        self.depthwise = Depthwise(features, kernel, causal=causal)
        self.norm = norm(features)
        self.up = Linear(features, hidden)
        self.down = Linear(hidden, features)
        gain = None if scale is None else nn.Parameter(torch.full((features,), scale))
        self.register_parameter("scale", gain)

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
        y = self.down(F.gelu(self.up(self.norm(y.transpose(1, 2)))))
        return (y if self.scale is None else self.scale * y).transpose(1, 2)

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; the span of the depthwise convolution."""
        return self.depthwise.input_span(first, last)
