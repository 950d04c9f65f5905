"""Self-attention over a whole clip, as in the decoder of WavTokenizer."""

from __future__ import annotations

from torch.nn import functional as F

from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.base import WholeClip
from audiotok.nn.linear import Linear


class ClipAttention(WholeClip):
    """Self-attention `[b d t]` with one head and no positions, over all steps of the clip.

    There is no residual connection, which is left to `Residual`. Work grows with the square of t.
    `attention.Attention` sees only a window, and can run in steps.

    Source: Ji et al. 2024, arXiv:2408.16532, who took it from VQGAN (Esser et al. 2020,
    arXiv:2012.09841).
    """

    def __init__(self, features: int) -> None:
        super().__init__(features)
        self.qkv = Linear(features, 3 * features)
        self.out = Linear(features, features)

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`."""
        q, k, v = self.qkv(x.transpose(1, 2))[:, None].chunk(3, 3)
        return self.out(F.scaled_dot_product_attention(q, k, v)[:, 0]).transpose(1, 2)
