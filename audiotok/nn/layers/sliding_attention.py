"""Self-attention over a sliding window of earlier and later steps, with normalised queries."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiotok._platform.errors import InputError
from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.base import Layer, Span, State
from audiotok.nn.linear import Linear


class SlidingAttention(Layer):
    """Attention x + scale * attention(norm(x)) of each step to its neighbours on both sides.

    `attention.Attention` sees no later steps; this one lags by those that it sees.

    Args:
        features: width of input and output.
        heads: number of attention heads.
        earlier: earlier steps attended to.
        later: later steps attended to.
        rotated: features of a head, from the first, that are rotated by the position; an even
            number (Wang & Komatsuzaki 2021 rotate a part, as GPT-J).
        scale: initial value of the learnt per-feature gain on the branch.
        norm: function that creates the normalisation of a given width, features last.

    Source: Parker et al. 2024, arXiv:2411.19842, section 3.1 (TAAE); Dehghani et al. 2023,
    arXiv:2302.05442, section 2 (normalised queries and keys); Su et al. 2021, arXiv:2104.09864.

    Raises:
        ValueError: the heads do not share the features equally, or `rotated` is odd or too large.
    """

    causal = False
    angles: Tensor

    def __init__(
        self,
        features: int,
        *,
        heads: int,
        earlier: int,
        later: int,
        rotated: int,
        scale: float = 0.01,
        norm: Callable[[int], nn.Module] = nn.LayerNorm,
    ) -> None:
        super().__init__()
        width = features // heads
        if features % heads or rotated % 2 or rotated > width:
            raise InputError(
                f"{features} features, {heads} heads, {rotated} rotated: equal heads, and of each"
                " an even number of features at most"
            )
        self.heads = heads
        self.earlier = earlier
        self.later = later
        self.norm = norm(features)
        self.qkv = Linear(features, 3 * features, bias=False)
        self.query_norm = nn.LayerNorm(width, eps=1e-6)
        self.key_norm = nn.LayerNorm(width, eps=1e-6)
        self.out = Linear(features, features, bias=False)
        self.scale = nn.Parameter(torch.full((features,), scale))
        angles = 10000.0 ** (-torch.arange(0, rotated, 2, dtype=torch.float32) / max(rotated, 1))
        self.register_buffer("angles", angles, persistent=False)

    def start(self, batch: int) -> State:
        """See `Layer.start`; queries, keys and values in reach, inputs that wait, the position."""
        features = self.out.in_features
        at = torch.zeros(batch, dtype=torch.int64, device=self.scale.device)
        return self.zeros(batch, 0, 3 * features), self.zeros(batch, features, 0), at

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Layer.step`; the steps whose window is complete."""
        return self._run(x, state, self.later)

    def finish(self, x: Features, state: State) -> Output:
        """See `Layer.finish`; the last steps see what there is."""
        return self._run(x, state, 0)[0]

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`."""
        return self.finish(x, self.start(len(x)))

    def _run(self, x: Tensor, state: State, missing: int) -> tuple[Output, State]:
        """Return the outputs of all steps but the last `missing`, and the state."""
        near, waiting, at = state
        near = torch.cat([near, self._projected(x.transpose(1, 2), at)], 1)
        waiting, at = self.joined(waiting, x), at + x.shape[2]
        first = near.shape[1] - waiting.shape[2]  # of the steps that wait
        count = max(0, waiting.shape[2] - missing)
        y = waiting[:, :, :count]
        if count:
            y = y + self._attended(near, first, count)
        kept = max(0, first + count - self.earlier)
        return y, (near[:, kept:], waiting[:, :, count:], at)

    def _attended(self, near: Tensor, first: int, count: int) -> Tensor:
        """Return the branch `[b d t]` of `count` steps from the `first` of those in reach."""
        q, k, v = (self._split(part) for part in near[:, : first + count + self.later].chunk(3, 2))
        steps = torch.arange(k.shape[2], device=near.device)
        distance = steps - steps[first : first + count, None]
        mask = (distance >= -self.earlier) & (distance <= self.later)
        y = F.scaled_dot_product_attention(q[:, :, first : first + count], k, v, attn_mask=mask)
        return (self.out(y.transpose(1, 2).flatten(2)) * self.scale).transpose(1, 2)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def _projected(self, frames: Tensor, at: Tensor) -> Tensor:
        """Return queries, keys and values `[b t 3d]` of steps, the first of them at `at [b]`."""
        q, k, v = (
            part.unflatten(2, (self.heads, -1)) for part in self.qkv(self.norm(frames)).chunk(3, 2)
        )
        positions = at[:, None] + torch.arange(frames.shape[1], device=frames.device)
        angles = positions[:, :, None].double() * self.angles.double()
        turn = [part.to(q.dtype)[:, :, None] for part in (angles.cos(), angles.sin())]
        q, k = (self._turned(x, *turn) for x in (self.query_norm(q), self.key_norm(k)))
        return torch.cat([part.flatten(2) for part in (q, k, v)], 2)

    @staticmethod
    def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Rotate the first features of heads `[b t h w]`, feature i with i + half of them."""
        half = cos.shape[3]
        a, b, rest = x.split([half, half, x.shape[3] - 2 * half], 3)
        return torch.cat([a * cos - b * sin, b * cos + a * sin, rest], 3)

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; the windows."""
        return first - self.earlier, last + self.later
