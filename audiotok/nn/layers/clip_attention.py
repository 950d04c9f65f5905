"""Self-attention over a whole clip, as WavTokenizer's decoder has it."""

from __future__ import annotations

from torch import nn
from torch.nn import functional as F

from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.base import WholeClip


class ClipAttention(WholeClip):
    """Each step is a mean of all steps of the clip, weighted by likeness: one head, no positions.

    `[b d t]` to the same; it adds nothing of its input, which is `Residual`'s to do. Work grows
    with the square of t. `attention.Attention` sees a window only, and can be stepped.

    Source: Ji et al. 2024, arXiv:2408.16532, which has it from VQGAN (Esser et al. 2020,
    arXiv:2012.09841).
    """

    def __init__(self, features: int) -> None:
        super().__init__(features)
        self.qkv = nn.Linear(features, 3 * features)
        self.out = nn.Linear(features, features)

    def forward(self, x: Features) -> Output:
        """Attend over the clip."""
        q, k, v = self.qkv(x.transpose(1, 2))[:, None].chunk(3, 3)
        return self.out(F.scaled_dot_product_attention(q, k, v)[:, 0]).transpose(1, 2)
