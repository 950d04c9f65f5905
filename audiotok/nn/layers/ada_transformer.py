"""Transformer over a whole clip whose normalisations are scaled by a condition, as TaDiCodec's."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiotok.nn.layers.base import Mix
from audiotok.nn.layers.clip_attention import ClipAttention
from audiotok.nn.layers.feed_forward import gated
from audiotok.nn.linear import Linear


class AdaRmsNorm(nn.Module):
    """Normalisation by the root of the mean square, with a gain that is a map of a condition.

    A new one has gain 1 whatever the condition.

    Args:
        features: width d of what is normalised, and of the condition.
        eps: added to the mean square.
    """

    def __init__(self, features: int, *, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.gain = Linear(features, features)
        nn.init.zeros_(self.gain.weight)
        nn.init.ones_(self.gain.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Normalise features `[b d t]` under conditions `[b d]`."""
        size = torch.rsqrt(x.square().mean(1, keepdim=True) + self.eps)
        return self.gain(condition)[:, :, None] * (x * size)


class AdaBlock(nn.Module):
    """Attention to all steps with rotary positions, then a gated perceptron, both conditioned.

    Args:
        features: width of input and output.
        heads: attention heads.
    """

    def __init__(self, features: int, *, heads: int) -> None:
        super().__init__()
        self.norm1 = AdaRmsNorm(features)
        self.attention = ClipAttention(features, heads=heads, bias=False, rotary=True)
        self.norm2 = AdaRmsNorm(features)
        self.up = Mix(features, 8 * features, bias=False)
        self.down = Mix(4 * features, features, bias=False)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return features `[b d t]` under conditions `[b d]`."""
        x = x + self.attention(self.norm1(x, condition))
        return x + self.down(gated(self.up(self.norm2(x, condition)), 1))


class AdaTransformer(nn.Module):
    """Blocks of attention to all steps `[b d t]`, with a norm after the last; no causality.

    Every normalisation is scaled by a map of a condition: the time of a diffusion.

    Args:
        features: width of input and output.
        blocks: number of blocks.
        heads: attention heads.

    Source: Wang et al. 2025, arXiv:2508.16790; Touvron et al. 2023, arXiv:2302.13971 (LLaMA).
    """

    def __init__(self, features: int, *, blocks: int, heads: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(AdaBlock(features, heads=heads) for _ in range(blocks))
        self.norm = AdaRmsNorm(features)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return features `[b d t]` under conditions `[b d]`."""
        for block in self.blocks:
            x = block(x, condition)
        return self.norm(x, condition)


class Perceptron(nn.Module):
    """Two linear maps with SiLU between them, `[... d]` to `[... d]`, four times as wide inside."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.up = Linear(features, 4 * features)
        self.down = Linear(4 * features, features)

    def forward(self, x: Tensor) -> Tensor:
        """Return as many features."""
        return self.down(F.silu(self.up(x)))
