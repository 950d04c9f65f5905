"""Self-attention over the last frames: causal, windowed, with rotary positions.

Queries and keys are turned once, by their absolute position; what counts in their product is how
far apart they are. Angles are taken in double precision, so that after ten hours they are as exact
as in the first second.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.base import Layer, Span, State


class Attention(Layer):
    """x + scale * attention(norm(x)): each frame sees itself and the `window - 1` before it.

    Args:
        features: width, a multiple of heads.
        heads: attention heads.
        window: frames in sight, the present one included.
        scale: initial value of the learnt per-feature gain on the branch.

    Rotary positions: Su et al. 2021, arXiv:2104.09864.
    """

    angles: Tensor

    def __init__(
        self, features: int, *, heads: int = 4, window: int = 50, scale: float = 0.1
    ) -> None:
        super().__init__()
        if features % (2 * heads):
            raise ValueError(f"features {features} must be a multiple of 2 x heads ({2 * heads})")
        self.heads, self.window = heads, window
        self.norm = nn.LayerNorm(features)
        self.qkv = nn.Linear(features, 3 * features, bias=False)
        self.out = nn.Linear(features, features, bias=False)
        self.scale = nn.Parameter(torch.full((features,), scale))
        width = features // heads
        turn = 10000.0 ** (-torch.arange(0, width, 2, dtype=torch.float32) / width)
        self.register_buffer("angles", turn, persistent=False)

    def start(self, batch: int) -> State:
        """Keys and values of the last window, which of them are real, and the next position."""
        past, features = self.window - 1, self.out.in_features
        device = self.scale.device
        real = torch.zeros(batch, past, dtype=torch.bool, device=device)
        at = torch.zeros(batch, dtype=torch.int64, device=device)
        return self.zeros(batch, past, 2 * features), real, at

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """Attend from the frames of `x` to those in sight."""
        past, real, at = state
        frames = x.transpose(1, 2)
        b, t, d = frames.shape
        q, k, v = self.qkv(self.norm(frames)).chunk(3, 2)
        q, k = self._turned(q, k, at)
        kv = torch.cat([past, torch.cat([k, v], 2)], 1)
        real = torch.cat([real, real.new_ones(b, t)], 1)
        steps = torch.arange(kv.shape[1], device=x.device)
        distance = steps[self.window - 1 :, None] - steps
        seen = (distance >= 0) & (distance < self.window) & real[:, None, None, :]
        k, v = kv.split(d, 2)
        y = nn.functional.scaled_dot_product_attention(
            self._heads(q), self._heads(k), self._heads(v), attn_mask=seen
        )
        y = self.out(y.transpose(1, 2).reshape(b, t, d)) * self.scale
        return x + y.transpose(1, 2), (kv[:, t:], real[:, t:], at + t)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def _turned(self, q: Tensor, k: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys `[b t d]`, the first at position `at [b]`, each turned by its own."""
        positions = at[:, None] + torch.arange(q.shape[1], device=q.device)
        turn = positions[:, :, None].double() * self.angles.double()
        cos, sin = (part.to(q.dtype)[:, :, None, None] for part in (turn.cos(), turn.sin()))
        both = torch.stack([q, k], 2).unflatten(3, (self.heads, -1))  # [b t 2 heads width]
        a, b = both.chunk(2, -1)
        q, k = torch.cat([a * cos - b * sin, a * sin + b * cos], -1).flatten(3).unbind(2)
        return q, k

    def reach(self, first: int, last: int) -> Span:
        """Back over the window."""
        return first - self.window + 1, last
