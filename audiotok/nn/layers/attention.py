"""Causal self-attention over a window of frames, with rotary positions.

Queries and keys are rotated once, by their absolute positions; their product depends only on the
distance. Angles are computed in double precision, so that they are as exact after ten hours as in
the first second; unless a published network has them rounded.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from audiotok._platform.errors import InputError
from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.base import Layer, Span, State
from audiotok.nn.linear import Linear
from audiotok.nn.onednn import computes


class Attention(Layer):
    """Attention x + scale * attention(norm(x)) of each frame to itself and the `window - 1` before.

    Args:
        features: width of input and output.
        heads: number of attention heads.
        window: frames attended to, including the current one.
        scale: initial value of the learnt per-feature gain on the branch.
        width: features of a head, an even number; `features / heads` if None.
        key_heads: heads of keys and values, each of which serves equally many heads in a row
            (Ainslie et al. 2023, arXiv:2305.13245); one for each head if None.
        norm: function that creates the normalisation of a given width, features last.
        rounding: type to which cosines and sines of positions are rounded, of angles in single
            precision, where that is what a network was trained with; exact if None.

    Rotary positions: Su et al. 2021, arXiv:2104.09864.

    Raises:
        ValueError: the heads do not share the features, or the heads of keys, equally.
    """

    angles: Tensor

    def __init__(
        self,
        features: int,
        *,
        heads: int = 4,
        window: int = 50,
        scale: float = 0.1,
        width: int | None = None,
        key_heads: int | None = None,
        norm: Callable[[int], nn.Module] = nn.LayerNorm,
        rounding: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        key_heads = key_heads or heads
        if width is None and features % (2 * heads):
            raise InputError(f"features {features} must be a multiple of 2 x heads ({2 * heads})")
        width = width or features // heads
        if width % 2:
            raise InputError(f"heads of {width} features: rotation takes an even number")
        if heads % key_heads:
            raise InputError(f"{heads} heads must be a multiple of the heads of keys, {key_heads}")
        self.heads = heads
        self.window = window
        self.width = width
        self.sharing = heads // key_heads  # heads with the same keys
        self.split = heads * width, key_heads * width  # features of queries, and of keys
        self.rounding = rounding
        self.norm = norm(features)
        self.qkv = Linear(features, self.split[0] + 2 * self.split[1], bias=False)
        self.out = Linear(self.split[0], features, bias=False)
        self.scale = nn.Parameter(torch.full((features,), scale))
        steps = torch.arange(0, width, 2, dtype=torch.float32) / width
        angles = 1 / 10000.0**steps if rounding else 10000.0 ** (-steps)  # not the same, rounded
        self.register_buffer("angles", angles, persistent=False)

    def start(self, batch: int) -> State:
        """See `Layer.start`; keys and values of the window, which are real, next position."""
        past = self.window - 1
        device = self.scale.device
        real = torch.zeros(batch, past, dtype=torch.bool, device=device)
        at = torch.zeros(batch, dtype=torch.int64, device=device)
        return self.zeros(batch, past, 2 * self.split[1]), real, at

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Layer.step`."""
        past, real, at = state
        frames = x.transpose(1, 2)
        b, t, _ = frames.shape
        queries, keys = self.split
        qk, v = self.qkv(self.norm(frames)).split([queries + keys, keys], 2)
        q, k = self._turned(qk, at).split([queries, keys], 2)
        kv = torch.cat([past, torch.cat([k, v], 2)], 1)
        real = torch.cat([real, real.new_ones(b, t)], 1)
        # Near the beginning of all signals the first keys are none's.
        first = max(0, self.window - 1 - int(at.max())) if computes(x, self.scale) else 0
        steps = torch.arange(first, kv.shape[1], device=x.device)
        distance = steps[self.window - 1 - first :, None] - steps
        mask = self._mask(distance, real[:, first:])
        k, v = (self._shared(part) for part in kv[:, first:].split(keys, 2))
        y = nn.functional.scaled_dot_product_attention(self._heads(q), k, v, attn_mask=mask)
        y = self.out(y.transpose(1, 2).flatten(2)) * self.scale
        return x + y.transpose(1, 2), (kv[:, t:], real[:, t:], at + t)

    def _mask(self, distance: Tensor, real: Tensor) -> Tensor:
        """Return which keys a query sees, or what is added to scores, `[b heads t keys]` or so.

        Args:
            distance: frames from keys to queries `[t keys]`.
            real: which keys are of frames `[b keys]`.
        """
        return (distance >= 0) & (distance < self.window) & real[:, None, None, :]

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (-1, self.width)).transpose(1, 2)

    def _shared(self, x: Tensor) -> Tensor:
        """Return keys or values `[b t d]` as `[b heads t width]`, those of a group repeated."""
        x = self._heads(x)
        return x.repeat_interleave(self.sharing, 1) if self.sharing > 1 else x

    def _turned(self, qk: Tensor, at: Tensor) -> Tensor:
        """Rotate queries and keys `[b t d]`, of which the first are at positions `at [b]`."""
        positions = at[:, None] + torch.arange(qk.shape[1], device=qk.device)
        precision = torch.float32 if self.rounding else torch.float64
        angles = positions[:, :, None].to(precision) * self.angles.to(precision)
        turns = (part.to(self.rounding or qk.dtype) for part in (angles.cos(), angles.sin()))
        cos, sin = (part.to(qk.dtype)[:, :, None] for part in turns)
        a, b = qk.unflatten(2, (-1, self.width)).chunk(2, -1)  # [b t heads width/2]
        return torch.cat([a * cos - b * sin, a * sin + b * cos], -1).flatten(2)

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; the frames of the window."""
        return first - self.window + 1, last
