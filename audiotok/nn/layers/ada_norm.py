"""Layer normalisation with a scale and shift for each condition, as in Vocos."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiotok.nn.layers.base import Norm


class AdaLayerNorm(nn.Module):
    """Layer normalisation of the last axis, scaled and shifted by the row of a condition.

    The conditions of Vocos are bandwidths of EnCodec; WavTokenizer has four and uses the first.

    Args:
        features: width of the last axis.
        conditions: number of rows of scales and shifts, `[conditions features]`.
        eps: constant added to the variance.

    Source: Siuzdak 2023, arXiv:2306.00814; its code, vocos 0.1.0, `modules.py`.
    """

    def __init__(self, features: int, *, conditions: int = 4, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.condition = 0
        self.scale = nn.Parameter(torch.ones(conditions, features))
        self.shift = nn.Parameter(torch.zeros(conditions, features))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise features `[... features]`."""
        scale, shift = self.scale[self.condition], self.shift[self.condition]
        return F.layer_norm(x, scale.shape, scale, shift, self.eps)


class AdaNorm(Norm):
    """Layer of `AdaLayerNorm` over the features of each step, `[b d t]`."""

    def __init__(self, features: int, *, conditions: int = 4, eps: float = 1e-6) -> None:
        super().__init__(features)
        ada = AdaLayerNorm(features, conditions=conditions, eps=eps)
        self.norm = cast("nn.LayerNorm", ada)
