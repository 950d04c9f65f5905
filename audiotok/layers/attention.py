"""Self-attention over the last frames: causal, windowed, with rotary positions.

Keys are kept unrotated and turned by their distance from the start of what is attended to, never
by their absolute position: after ten hours the angles are as exact as in the first second.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audiotok.layers.base import Layer, Span, State
from audiotok.shapes import Features, Output


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
        """Keys and values of the last window, and which of them are real."""
        past, features = self.window - 1, self.out.in_features
        real = torch.zeros(batch, past, dtype=torch.bool, device=self.scale.device)
        return self.zeros(batch, past, 2 * features), real

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """Attend from the frames of `x` to those in sight."""
        past, real = state
        frames = x.transpose(1, 2)
        b, t, d = frames.shape
        keep = self.window - 1
        q, kv = self.qkv(self.norm(frames)).split([d, 2 * d], 2)
        kv = torch.cat([past, kv], 1)
        real = torch.cat([real, real.new_ones(b, t)], 1)
        at = torch.arange(kv.shape[1], device=x.device)
        q = self._rotate(self._heads(q), at[keep:])
        k, v = kv.split(d, 2)
        distance = at[keep:, None] - at
        seen = (distance >= 0) & (distance < self.window) & real[:, None, None, :]
        y = nn.functional.scaled_dot_product_attention(
            q, self._rotate(self._heads(k), at), self._heads(v), attn_mask=seen
        )
        y = self.out(y.transpose(1, 2).reshape(b, t, d)) * self.scale
        return x + y.transpose(1, 2), (kv[:, t:], real[:, t:])

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def _rotate(self, x: Tensor, at: Tensor) -> Tensor:
        turn = at[:, None] * self.angles
        cos, sin = turn.cos().to(x.dtype), turn.sin().to(x.dtype)
        a, b = x.chunk(2, -1)
        return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)

    def reach(self, first: int, last: int) -> Span:
        """Back over the window."""
        return first - self.window + 1, last
