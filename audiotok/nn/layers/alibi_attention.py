"""Causal self-attention over a window of frames, whose scores fall with the distance."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from audiotok.nn.layers.attention import Attention


class AlibiAttention(Attention):
    """An `Attention` without rotation: the score of a key falls with its distance, by head.

    The slope of head i of n, a power of two, is 2^(-8 i / n), i from 0: steepest in the first. Of
    another number of heads those of the power below come first, then every other one of the power
    above. Queries and keys are normalised, over all heads together.

    Args:
        features: width of input and output.
        options: options of `Attention`.

    Source: Press et al. 2022, arXiv:2108.12409 (whose slopes begin with i = 1); Dehghani et al.
    2023, arXiv:2302.05442, section 2 (normalised queries and keys); as in Voxtral's codec.
    """

    slopes: Tensor

    def __init__(self, features: int, **options: Any) -> None:
        super().__init__(features, **options)
        queries, keys = self.split
        self.query_norm = nn.RMSNorm(queries, eps=1e-6)
        self.key_norm = nn.RMSNorm(keys, eps=1e-6)
        self.register_buffer("slopes", torch.tensor(_slopes(self.heads)), persistent=False)

    def _turned(self, qk: Tensor, at: Tensor) -> Tensor:
        """Return queries and keys `[b t d]`, normalised."""
        q, k = qk.split(list(self.split), 2)
        return torch.cat([self.query_norm(q), self.key_norm(k)], 2)

    def _mask(self, distance: Tensor, real: Tensor) -> Tensor:
        """See `Attention._mask`; what is added to scores."""
        fall = -self.slopes[:, None, None] * distance
        return torch.where(super()._mask(distance, real), fall, -torch.inf)


def _slopes(heads: int) -> list[float]:
    """Return the slope of each head."""
    whole = 2 ** int(math.log2(heads))
    first = [2.0 ** (-8 * i / whole) for i in range(whole)]
    others = [2.0 ** (-8 * i / (2 * whole)) for i in range(0, 2 * whole, 2)]
    return first + others[: heads - whole]
