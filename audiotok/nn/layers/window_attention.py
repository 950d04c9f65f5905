"""Self-attention within windows that do not overlap, as in SNAC for music."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiotok._platform.errors import InputError
from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.base import Layer, Span, State
from audiotok.nn.layers.transformer_block import rotated
from audiotok.nn.linear import Linear


class WindowAttention(Layer):
    """Attention x + attention(norm(x)) `[b d t]` of each step to all steps of its window.

        steps      0 1 2 3 | 4 5 6 7 | 8 9        windows of 4, of which the last is not whole
        sees       0 to 3    4 to 7    8 and 9

    Windows are whole before they are computed, so that a step lags.

    Args:
        features: width of input and output.
        heads: number of attention heads.
        window: steps in a window.

    Source: Siuzdak et al. 2024, arXiv:2410.14411, section 3.4 (SNAC); Su et al. 2021,
    arXiv:2104.09864 (rotary positions, which begin anew in each window).

    Raises:
        ValueError: the heads do not share the features equally.
    """

    causal = False

    def __init__(self, features: int, *, heads: int, window: int) -> None:
        super().__init__()
        if features % (2 * heads):
            raise InputError(f"features {features} must be a multiple of 2 x heads ({2 * heads})")
        self.heads = heads
        self.window = window
        self.norm = nn.LayerNorm(features)
        self.qkv = Linear(features, 3 * features, bias=False)
        self.out = Linear(features, features, bias=False)

    def start(self, batch: int) -> State:
        """See `Layer.start`; the steps of an unfinished window."""
        return self.zeros(batch, self.out.in_features, 0)

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Layer.step`; the complete windows are returned."""
        x = self.joined(state, x)
        whole = x.shape[2] // self.window * self.window
        return self._attended(x[:, :, :whole]), x[:, :, whole:]

    def finish(self, x: Features, state: State) -> Output:
        """See `Layer.finish`; the steps of the last window see each other."""
        return self._attended(self.joined(state, x))

    def _attended(self, x: Tensor) -> Output:
        return self.forward(x) if x.shape[2] else x

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`."""
        steps = x.shape[2]
        frames = F.pad(x.transpose(1, 2), (0, 0, 0, -steps % self.window))
        windows = frames.unflatten(1, (-1, self.window))  # [b w n d]
        real = torch.arange(frames.shape[1], device=x.device) < steps
        qkv = self.qkv(self.norm(windows)).unflatten(3, (3, self.heads, -1))
        q, k, v = qkv.permute(3, 0, 1, 4, 2, 5).flatten(1, 2)  # each [b*w heads n width]
        mask = real.view(-1, 1, 1, self.window).repeat(len(x), 1, 1, 1)
        y = F.scaled_dot_product_attention(rotated(q, 0), rotated(k, 0), v, attn_mask=mask)
        y = self.out(y.transpose(1, 2).flatten(2)).view_as(frames)
        return x + y[:, :steps].transpose(1, 2)

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; the steps of the windows."""
        n = self.window
        return first // n * n, (last // n + 1) * n - 1
