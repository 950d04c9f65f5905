"""Causal self-attention over a window of frames, with rotary positions.

Queries and keys are rotated once, by their absolute positions; their product depends only on the
distance. Angles are computed in double precision, so that they are as exact after ten hours as in
the first second.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audiotok._platform.errors import InputError
from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.base import Layer, Span, State
from audiotok.nn.linear import Linear


class Attention(Layer):
    """Attention x + scale * attention(norm(x)) of each frame to itself and the `window - 1` before.

    Args:
        features: width, a multiple of twice the number of heads.
        heads: number of attention heads.
        window: frames attended to, including the current one.
        scale: initial value of the learnt per-feature gain on the branch.

    Rotary positions: Su et al. 2021, arXiv:2104.09864.
    """

    angles: Tensor

    def __init__(
        self, features: int, *, heads: int = 4, window: int = 50, scale: float = 0.1
    ) -> None:
        super().__init__()
        if features % (2 * heads):
            raise InputError(f"features {features} must be a multiple of 2 x heads ({2 * heads})")
        self.heads = heads
        self.window = window
        self.norm = nn.LayerNorm(features)
        self.qkv = Linear(features, 3 * features, bias=False)
        self.out = Linear(features, features, bias=False)
        self.scale = nn.Parameter(torch.full((features,), scale))
        width = features // heads
        angles = 10000.0 ** (-torch.arange(0, width, 2, dtype=torch.float32) / width)
        self.register_buffer("angles", angles, persistent=False)

    def start(self, batch: int) -> State:
        """See `Layer.start`; keys and values of the window, which are real, next position."""
        past, features = self.window - 1, self.out.in_features
        device = self.scale.device
        real = torch.zeros(batch, past, dtype=torch.bool, device=device)
        at = torch.zeros(batch, dtype=torch.int64, device=device)
        return self.zeros(batch, past, 2 * features), real, at

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Layer.step`."""
        past, real, at = state
        frames = x.transpose(1, 2)
        b, t, d = frames.shape
        q, k, v = self.qkv(self.norm(frames)).chunk(3, 2)
        q, k = self._turned(q, k, at)
        kv = torch.cat([past, torch.cat([k, v], 2)], 1)
        real = torch.cat([real, real.new_ones(b, t)], 1)
        steps = torch.arange(kv.shape[1], device=x.device)
        distance = steps[self.window - 1 :, None] - steps
        mask = (distance >= 0) & (distance < self.window) & real[:, None, None, :]
        k, v = kv.split(d, 2)
        y = nn.functional.scaled_dot_product_attention(
            self._heads(q), self._heads(k), self._heads(v), attn_mask=mask
        )
        y = self.out(y.transpose(1, 2).reshape(b, t, d)) * self.scale
        return x + y.transpose(1, 2), (kv[:, t:], real[:, t:], at + t)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def _turned(self, q: Tensor, k: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        """Rotate queries and keys `[b t d]`, of which the first are at positions `at [b]`."""
        positions = at[:, None] + torch.arange(q.shape[1], device=q.device)
        angles = positions[:, :, None].double() * self.angles.double()
        cos, sin = (part.to(q.dtype)[:, :, None, None] for part in (angles.cos(), angles.sin()))
        both = torch.stack([q, k], 2).unflatten(3, (self.heads, -1))  # [b t 2 heads width]
        a, b = both.chunk(2, -1)
        q, k = torch.cat([a * cos - b * sin, a * sin + b * cos], -1).flatten(3).unbind(2)
        return q, k

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; the frames of the window."""
        return first - self.window + 1, last
