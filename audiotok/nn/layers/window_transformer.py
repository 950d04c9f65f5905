"""Transformer of frames that see a window of frames before them."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from audiotok.nn.layers.attention import Attention
from audiotok.nn.layers.base import Layer
from audiotok.nn.layers.chain import Chain
from audiotok.nn.layers.feed_forward import FeedForward


class WindowTransformer(Chain):
    """Blocks of attention to a window and a perceptron, each with a norm first and a learnt gain.

    A stream of any length runs in memory of the windows alone.

    Args:
        features: width of input and output.
        hidden: width inside a perceptron.
        blocks: number of blocks.
        heads: attention heads.
        window: frames attended to, including the current one.
        scale: initial value of the gains.
        width: features of a head; `features / heads` if None.
        key_heads: heads of keys and values; `heads` if None.
        gated: whether half of the maps of a perceptron gate the other half.
        norm: function that creates the normalisation of a given width, features last.
        attention: class of attention: `Attention`, with rotary positions, or `AlibiAttention`.

    Source: Vaswani et al. 2017, arXiv:1706.03762, with the norms first.
    """

    def __init__(
        self,
        features: int,
        hidden: int,
        *,
        blocks: int,
        heads: int,
        window: int,
        scale: float = 0.01,
        width: int | None = None,
        key_heads: int | None = None,
        gated: bool = False,
        norm: Callable[[int], nn.Module] = nn.LayerNorm,
        attention: type[Attention] = Attention,
    ) -> None:
        layers: list[Layer] = []
        for _ in range(blocks):
            layers += [
                attention(
                    features,
                    heads=heads,
                    window=window,
                    scale=scale,
                    width=width,
                    key_heads=key_heads,
                    norm=norm,
                ),
                FeedForward(features, hidden, scale=scale, gated=gated, norm=norm),
            ]
        super().__init__(layers)
