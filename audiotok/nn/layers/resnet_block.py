"""Residual unit of two convolutions with group normalisation, as beside attention over a clip."""

from __future__ import annotations

from torch import nn

from audiotok.nn.layers.base import Pointwise, Residual
from audiotok.nn.layers.chain import Chain
from audiotok.nn.layers.conv import Conv
from audiotok.nn.layers.group_norm import GroupNorm


class ResnetBlock(Residual):
    """Residual unit x + conv(dropout(silu(norm(conv(silu(norm(x))))))) over the whole clip.

    Args:
        features: width of input and output.
        groups: groups of the normalisations.
        dropout: share of features that are dropped in training.
        eps: of the normalisations.

    Source: VQGAN (Esser et al. 2020, arXiv:2012.09841), whose decoder WavTokenizer (Ji et al. 2024,
    arXiv:2408.16532) and X-codec 2 (Ye et al. 2025, arXiv:2502.04128) follow.
    """

    def __init__(self, features: int, *, groups: int, dropout: float, eps: float = 1e-6) -> None:
        super().__init__(
            Chain(
                [
                    GroupNorm(features, groups=groups, eps=eps),
                    Pointwise(nn.SiLU()),
                    Conv(features, features, 3, causal=False),
                    GroupNorm(features, groups=groups, eps=eps),
                    Pointwise(nn.SiLU()),
                    Pointwise(nn.Dropout(dropout)),
                    Conv(features, features, 3, causal=False),
                ]
            )
        )
