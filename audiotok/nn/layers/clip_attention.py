"""Self-attention over a whole clip, as in the decoders of WavTokenizer and X-codec 2."""

from __future__ import annotations

from torch.nn import functional as F

from audiotok._platform.errors import InputError
from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.base import WholeClip
from audiotok.nn.layers.transformer_block import rotated
from audiotok.nn.linear import Linear


class ClipAttention(WholeClip):
    """Self-attention `[b d t]` over all steps of the clip, without positions or with rotary ones.

    There is no residual connection, which is left to `Residual`. Work grows with the square of t.
    `attention.Attention` sees only a window, and can run in steps.

    Args:
        features: width of input and output.
        heads: number of attention heads.
        bias: whether the maps add a constant.
        rotary: whether positions rotate queries and keys (Su et al. 2021, arXiv:2104.09864).

    Source: Ji et al. 2024, arXiv:2408.16532, who took it from VQGAN (Esser et al. 2020,
    arXiv:2012.09841).

    Raises:
        ValueError: the heads do not share the features equally, or rotary ones have an odd number.
    """

    def __init__(
        self, features: int, *, heads: int = 1, bias: bool = True, rotary: bool = False
    ) -> None:
        if features % heads:
            raise InputError(f"features {features} must be a multiple of the heads, {heads}")
        if rotary and features // heads % 2:
            raise InputError(
                f"heads of {features // heads} features: rotation takes an even number"
            )
        super().__init__(features)
        self.heads = heads
        self.rotary = rotary
        self.qkv = Linear(features, 3 * features, bias=bias)
        self.out = Linear(features, features, bias=bias)

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`."""
        parts = self.qkv(x.transpose(1, 2)).chunk(3, 2)
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)
        if self.rotary:
            q, k = rotated(q, 0), rotated(k, 0)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.out(y).transpose(1, 2)
