"""Transformer over a whole clip, without biases: X-codec 2's decoder, TaDiCodec's encoder."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from audiotok.nn.layers.base import Layer, Mix, Pointwise, Residual
from audiotok.nn.layers.chain import Chain
from audiotok.nn.layers.clip_attention import ClipAttention
from audiotok.nn.layers.feed_forward import gated


class Gate(nn.Module):
    """Gate of features `[b d t]` by the first half of them."""

    def forward(self, x: Tensor) -> Tensor:
        """Return half as many features."""
        return gated(x, 1)


class ClipTransformer(Chain):
    """Blocks of attention to all steps and of a perceptron `[b d t]`, each after a norm.

    Args:
        features: width of input and output.
        blocks: number of blocks.
        heads: attention heads.
        hidden: width inside a perceptron.
        norm: function that creates a normalisation of a given width, before each half of a block.
        rotary: whether queries and keys are rotated by their positions; if not, there are none.
        gated: whether half of the maps to `hidden` gate the other half in a perceptron.

    Source: Vaswani et al. 2017, arXiv:1706.03762; Ye et al. 2025, arXiv:2502.04128.
    """

    def __init__(
        self,
        features: int,
        *,
        blocks: int,
        heads: int,
        hidden: int,
        norm: Callable[[int], Layer],
        rotary: bool = False,
        gated: bool = False,
    ) -> None:
        def after_norm(*layers: Layer) -> Layer:
            return Residual(Chain([norm(features), *layers]))

        layers: list[Layer] = []
        for _ in range(blocks):
            attention = ClipAttention(features, heads=heads, bias=False, rotary=rotary)
            up = Mix(features, 2 * hidden if gated else hidden, bias=False)
            down = Mix(hidden, features, bias=False)
            layers += [
                after_norm(attention),
                after_norm(up, Pointwise(Gate() if gated else nn.SiLU()), down),
            ]
        super().__init__(layers)
