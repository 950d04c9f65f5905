"""The decoder of Vocos: a convolution, ConvNeXt blocks and an inverse Fourier transform."""

from __future__ import annotations

from functools import partial

from torch import nn

from audiotok.nn.layers.ada_norm import AdaLayerNorm, AdaNorm
from audiotok.nn.layers.base import Layer, Mix, Norm
from audiotok.nn.layers.chain import Chain
from audiotok.nn.layers.conv import Conv
from audiotok.nn.layers.convnext import Convnext
from audiotok.nn.layers.fourier_head import FourierHead

EPS = 1e-6  # epsilon of every normalisation


class VocosChain(Chain):
    """Layers from features `[b d f]` to waves `[b 1 hop*f]`, with new weights as in Vocos.

    Args:
        inputs: number of input features.
        width: width of the blocks.
        blocks: number of blocks.
        expansion: hidden width of a block over its width.
        hop: samples per frame.
        window: samples of the window of the inverse Fourier transform.
        conditions: rows of scales and shifts of the normalisations, but for the last; 0 for plain
            ones.

    Source: Siuzdak 2023, arXiv:2306.00814; vocos 0.1.0, `VocosBackbone`, `ISTFTHead`.
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        *,
        blocks: int,
        expansion: int,
        hop: int,
        window: int,
        conditions: int = 0,
    ) -> None:
        norm = (
            partial(AdaLayerNorm, conditions=conditions, eps=EPS)
            if conditions
            else partial(nn.LayerNorm, eps=EPS)
        )
        middle: list[Layer] = [
            Convnext(width, expansion=expansion, scale=1 / blocks, causal=False, norm=norm)
            for _ in range(blocks)
        ]
        first = AdaNorm(width, conditions=conditions, eps=EPS) if conditions else None
        super().__init__(
            [
                Conv(inputs, width, 7, causal=False),
                first or Norm(width, eps=EPS),
                *middle,
                Norm(width, eps=EPS),
                Mix(width, window + 2),
                FourierHead(hop, window),
            ]
        )
        for module in self.modules():
            if isinstance(module, nn.Conv1d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
