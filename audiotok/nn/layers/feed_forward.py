"""Feed-forward half of a transformer block: a two-layer perceptron on every frame."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.base import Layer, Span, State
from audiotok.nn.linear import Linear


def gated(x: Tensor, dim: int) -> Tensor:
    """Return the second half of features, gated by the first (Shazeer 2020, arXiv:2002.05202).

    Args:
        x: features, an even number of them along `dim`.
        dim: axis of the features.
    """
    gate, value = x.chunk(2, dim)
    return F.silu(gate) * value


class FeedForward(Layer):
    """Perceptron x + scale * down(gelu(up(norm(x)))) `[b d t]`, without biases unless asked for.

    A gated one has down(silu(a) * b) instead, a and b the halves of `up`. Together with
    `attention.Attention` it is a block of the transformers of Mimi, and gated of Qwen3-TTS's.

    Args:
        features: width of input and output.
        hidden: width between the two maps.
        scale: initial value of the learnt per-feature gain on the branch (Touvron et al. 2021,
            arXiv:2103.17239).
        gated: whether half of the maps to `hidden` gate the other half.
        bias: whether the two maps have biases.
        approximate: whether gelu is approximated by tanh (Hendrycks & Gimpel 2016,
            arXiv:1606.08415), as some networks were trained.
        norm: function that creates the normalisation of a given width, features last.

    Source: Vaswani et al. 2017, arXiv:1706.03762, with the norm first; Défossez et al. 2024,
    arXiv:2410.00037, section 3.3.1 (Mimi); Shazeer 2020, arXiv:2002.05202 (gates).
    """

    def __init__(
        self,
        features: int,
        hidden: int,
        *,
        scale: float = 0.1,
        gated: bool = False,
        bias: bool = False,
        approximate: bool = False,
        norm: Callable[[int], nn.Module] = nn.LayerNorm,
    ) -> None:
        super().__init__()
        self.gated = gated
        self.gelu = "tanh" if approximate else "none"
        self.norm = norm(features)
        self.up = Linear(features, 2 * hidden if gated else hidden, bias=bias)
        self.down = Linear(hidden, features, bias=bias)
        self.scale = nn.Parameter(torch.full((features,), scale))

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Layer.step`; there is no state."""
        frames = x.transpose(1, 2)
        y = self.down(self._activated(self.up(self.norm(frames)))) * self.scale
        return (frames + y).transpose(1, 2), None

    def _activated(self, x: Tensor) -> Tensor:
        if not self.gated:
            return F.gelu(x, approximate=self.gelu)
        return gated(x, 2)

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; each output depends on its own input only."""
        return first, last
