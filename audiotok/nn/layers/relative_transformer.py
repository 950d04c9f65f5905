"""Transformer over a whole clip with gated relative positions and deep norm, as in BEATs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiotok._platform.errors import InputError
from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.base import WholeClip
from audiotok.nn.linear import Linear

QUERIES = 512  # steps whose scores are computed at once, so that memory grows with length only
PARTS = 4  # numbers that are added up to one of the two of a gate


class RelativeTransformer(WholeClip):
    """Blocks of attention to all steps and of a perceptron `[b d t]`, with a norm after each.

    What is added to a score depends on the distance of the two steps, by buckets that are single
    distances at first and grow with the distance; all blocks have the same numbers for them. A
    gate, which depends on the query, scales them.

    Args:
        features: width of input and output.
        blocks: number of blocks.
        heads: attention heads.
        hidden: width inside a perceptron.
        buckets: number of buckets of distances, before and after together, a multiple of four;
            no positions if 0.
        farthest: distance from which on all are in one bucket.
        gated: whether positions are scaled by a gate.
        deep: whether x counts (2 blocks)^(1/4) times beside what is added to it (deep norm).

    Raises:
        ValueError: the heads do not share the features, or the buckets are no multiple of four.

    Source: Chen et al. 2022, arXiv:2212.09058, section 3.1; gated relative positions: Chen et al.
    2021, arXiv:2110.13900, section 3.1 (WavLM); buckets: Raffel et al. 2020, arXiv:1910.10683,
    section 2.1; deep norm: Wang et al. 2022, arXiv:2203.00555.
    """

    def __init__(
        self,
        features: int,
        *,
        blocks: int,
        heads: int,
        hidden: int,
        buckets: int = 320,
        farthest: int = 800,
        gated: bool = True,
        deep: bool = True,
    ) -> None:
        if features % heads:
            raise InputError(f"features {features} must be a multiple of the heads, {heads}")
        if buckets % 4 or not (buckets == 0 or buckets < 4 * farthest):
            raise InputError(
                f"{buckets} buckets up to a distance of {farthest}: a multiple of four, and fewer"
                " than four times the distance"
            )
        super().__init__(features)
        self.farthest = farthest
        self.positions = nn.Embedding(buckets, heads) if buckets else None
        scale = (2 * blocks) ** 0.25 if deep else 1.0
        self.blocks = nn.ModuleList(
            _Block(features, heads, hidden, scale=scale, gated=gated and buckets > 0)
            for _ in range(blocks)
        )

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`."""
        *_, last = self.states(x)
        return last

    def states(self, x: Features) -> Iterator[Output]:
        """Yield the inputs `[b d t]` of all blocks, and the output of the last one."""
        bias = None if self.positions is None else self._bias(x.shape[2], x.device)
        frames = x.transpose(1, 2)
        for block in cast("list[_Block]", list(self.blocks)):
            yield frames.transpose(1, 2)
            frames = block(frames, bias)
        yield frames.transpose(1, 2)

    def _bias(self, steps: int, device: torch.device) -> Tensor:
        """Return what is added to scores, by head and distance `[heads 2*steps-1]`."""
        positions = cast("nn.Embedding", self.positions)
        distance = torch.arange(1 - steps, steps, device=device)
        return positions(bucketed(distance, positions.num_embeddings, self.farthest)).T


class _Block(nn.Module):
    """Attention and a perceptron, each added to what it was given and normalised."""

    def __init__(
        self, features: int, heads: int, hidden: int, *, scale: float, gated: bool
    ) -> None:
        super().__init__()
        self.heads = heads
        self.scale = scale
        self.query = Linear(features, features)
        self.key = Linear(features, features)
        self.value = Linear(features, features)
        self.out = Linear(features, features)
        self.gate = Linear(features // heads, 2 * PARTS) if gated else None
        self.strength = nn.Parameter(torch.ones(heads)) if gated else None
        self.norm1 = nn.LayerNorm(features)
        self.up = Linear(features, hidden)
        self.down = Linear(hidden, features)
        self.norm2 = nn.LayerNorm(features)

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Return the output of the block `[b t d]`."""
        x = self.norm1(self.scale * x + self._attended(x, bias))
        return self.norm2(self.scale * x + self.down(F.gelu(self.up(x))))

    def _attended(self, x: Tensor, bias: Tensor | None) -> Tensor:
        q, k, v = (
            layer(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        y = [
            F.scaled_dot_product_attention(part, k, v, attn_mask=self._added(part, bias, first, k))
            for first, part in zip(range(0, q.shape[2], QUERIES), q.split(QUERIES, 2), strict=True)
        ]
        return self.out(torch.cat(y, 2).transpose(1, 2).flatten(2))

    def _added(self, q: Tensor, bias: Tensor | None, first: int, k: Tensor) -> Tensor | None:
        """Return what is added to the scores of queries from `first` on, `[b h q t]`."""
        if bias is None:
            return None
        steps = k.shape[2]
        at = torch.arange(steps, device=q.device)
        added = bias[:, at + steps - 1 - at[first : first + q.shape[2], None]]
        if self.gate is None or self.strength is None:
            return added.expand(len(q), -1, -1, -1)
        a, b = self.gate(q).unflatten(3, (2, PARTS)).sum(4).sigmoid().split(1, 3)
        return (a * (b * self.strength[:, None, None] - 1) + 2) * added


def bucketed(distance: Tensor, buckets: int, farthest: int) -> Tensor:
    """Return the bucket of each distance: half of them for steps before and this one, half after.

    Half of each half are single distances; the others grow with the distance, up to `farthest`.
    """
    half = buckets // 2
    single = half // 2
    size = distance.abs()
    growth = torch.log(size.clamp(min=1).float() / single) / math.log(farthest / single)
    grown = (single + (growth * (half - single)).long()).clamp(max=half - 1)
    return torch.where(size < single, size, grown) + half * (distance > 0)
