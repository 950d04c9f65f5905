"""Transformer over a whole clip without positions and biases, as in the decoder of X-codec 2."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from audiotok.nn.layers.base import Chain, Layer, Mix, Pointwise, Residual
from audiotok.nn.layers.clip_attention import ClipAttention


class ClipTransformer(Chain):
    """Blocks of attention to all steps and of a perceptron `[b d t]`, each after a norm.

    Args:
        features: width of input and output.
        blocks: number of blocks.
        heads: attention heads.
        hidden: width inside a perceptron.
        norm: function that creates a normalisation of a given width, before each half of a block.

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
    ) -> None:
        def after_norm(*layers: Layer) -> Layer:
            return Residual(Chain([norm(features), *layers]))

        layers: list[Layer] = []
        for _ in range(blocks):
            up, down = Mix(features, hidden, bias=False), Mix(hidden, features, bias=False)
            layers += [
                after_norm(ClipAttention(features, heads=heads, bias=False)),
                after_norm(up, Pointwise(nn.SiLU()), down),
            ]
        super().__init__(layers)
