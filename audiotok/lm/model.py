"""Small transformer over the rows of a layout, preceded by the text of a recording.

    row 0     t0 t1 t2 | begin c  c  c  c  end -     a serial layout has this row alone
    row 1     -  -  -  | begin -  c  c  c  c   -     other rows are delayed in this example

The embeddings of all rows are summed, by learnt weights with `attention`, and each row has an
output layer of its own. The block is Llama's (arXiv:2302.13971): rotary positions (Su et al. 2021),
RMSNorm and SwiGLU. With `causal = False` every position sees all others, as in VALL-E's
non-autoregressive model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from audiotok._platform.config import BELOW_ONE, NONE_OR_MORE, ONE_OR_MORE
from audiotok._platform.errors import InputError
from audiotok.lm.layout.base import NONE
from audiotok.lm.mixture import SumHead
from audiotok.lm.phonetic import PHONE_INPUT_SIZES
from audiotok.nn.layers.code_embedding import LayerAttention

Ids = Int[Tensor, "b r n"]
Hidden = Float[Tensor, "b n d"]
Cache = list[tuple[Tensor, Tensor]]  # keys and values of each block, each [b heads n width]


@dataclass(frozen=True)
class Config:
    """Sizes and options of the network."""

    width: Annotated[int, ONE_OR_MORE] = 256  # of embeddings and hidden states
    depth: Annotated[int, ONE_OR_MORE] = 6  # number of blocks
    heads: Annotated[int, ONE_OR_MORE] = 4  # number of attention heads
    dropout: Annotated[float, BELOW_ONE] = 0.1  # share of activations set to zero in training
    causal: bool = True  # whether a position sees only those before it
    entries: bool = False  # initialize embeddings from the codec's codebooks: `audiotok.lm.entries`
    attention: bool = False  # sum the rows' embeddings by learnt weights, as layers of units want
    phones: bool = False  # condition each frame on its phone: see `audiotok.lm.phonetic`
    # Gaussians of the mixture that predicts sums of masked codebooks (ResGen): see
    # `audiotok.lm.masked`; 0 for a model that predicts ids.
    gaussians: Annotated[int, NONE_OR_MORE] = 0


class _TransformerBlock(nn.Module):
    """Transformer block: attention and a gated feed-forward layer, each added to its input."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, inner = config.width, -(-8 * config.width // 3 // 32) * 32
        self.heads = config.heads
        self.dropout = config.dropout
        self.causal = config.causal
        self.first = nn.RMSNorm(width)
        self.second = nn.RMSNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.gate = nn.Linear(width, 2 * inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def forward(
        self,
        x: Hidden,
        rotation: tuple[Tensor, Tensor],
        past: tuple[Tensor, Tensor] | None,
        mask: Tensor | None,
    ) -> tuple[Hidden, tuple[Tensor, Tensor]]:
        """Return the output, and the keys and values including those of the past.

        Args:
            x: the input `[b n d]`.
            rotation: cosines and sines of the rotary positions, each `[n w]`.
            past: keys and values of earlier positions, each `[b heads past width]`.
            mask: positions that may be attended to, or None for all or for causal attention.
        """
        b, n, d = x.shape
        heads = self.qkv(self.first(x)).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = _rotated(heads[0], rotation), _rotated(heads[1], rotation), heads[2]
        if past is not None:
            k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
        if self.causal and past is not None and n > 1:
            mask = torch.ones(n, k.shape[2], dtype=torch.bool, device=x.device)
            mask = mask.tril(k.shape[2] - n)
        y = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=mask,
            is_causal=self.causal and past is None and n > 1,
            # Without dropout, since torch has no fused attention with dropout on a CPU: a step
            # with it took 1.3 times as long.
        )
        y = self.out(y.transpose(1, 2).reshape(b, n, d))
        x = x + F.dropout(y, self.dropout, self.training)
        gate, inner = self.gate(self.second(x)).chunk(2, -1)
        y = self.down(F.silu(gate) * inner)
        return x + F.dropout(y, self.dropout, self.training), (k, v)


class Transformer(nn.Module):
    """Transformer from ids to the logits of the next ids.

    Args:
        vocabulary: number of ids of each row.
        text: number of text ids, which follow the first row's own and are never predicted.
        config: sizes and options.
        latent: width of the codec's entries, for a model with `gaussians`.

    Raises:
        ValueError: the width is not a multiple of twice the number of heads.
    """

    def __init__(
        self, vocabulary: Sequence[int], text: int, config: Config, *, latent: int = 0
    ) -> None:
        super().__init__()
        if config.width % (2 * config.heads):
            raise InputError(f"width {config.width} is no multiple of 2 x {config.heads} heads")
        self.vocabulary = tuple(vocabulary)
        self.text = text
        self.config = config
        sizes = [size + (text if row == 0 else 0) for row, size in enumerate(vocabulary)]
        self.tables = nn.ModuleList(nn.Embedding(size, config.width) for size in sizes)
        # `told` and `turn` are names in checkpoints: the embeddings of phone inputs, and the output
        # that predicts whether a phone ends with the frame.
        self.told = nn.ModuleList(
            nn.Embedding(size, config.width)
            for size in (PHONE_INPUT_SIZES if config.phones else ())
        )
        self.turn = nn.Linear(config.width, 2, bias=False) if config.phones else None
        self.attention = LayerAttention(config.width) if config.attention else None
        self.blocks = nn.ModuleList(_TransformerBlock(config) for _ in range(config.depth))
        self.norm = nn.RMSNorm(config.width)
        self.sums = None
        if config.gaussians:
            codes = [size - NONE for size in vocabulary]
            self.sums = SumHead(config.width, codes, latent, config.gaussians)
        self.heads = nn.ModuleList(
            nn.Linear(config.width, size, bias=False)
            for size in (() if config.gaussians else vocabulary)
        )
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        for block in self.blocks:
            assert isinstance(block, _TransformerBlock)
            for layer in (block.out, block.down):
                nn.init.normal_(layer.weight, std=0.02 / (2 * config.depth) ** 0.5)

    def hidden(
        self,
        ids: Ids,
        *,
        phones: Int[Tensor, "b _ n"] | None = None,
        cache: Cache | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Hidden, Cache]:
        """Return the output `[b n d]` of the last block, normalized, and the new cache.

        Args:
            ids: ids `[b r n]`.
            phones: phone inputs `[b p n]` of the frames to predict, for a model with phones.
            cache: keys and values of the ids before, in generation.
            lengths: number of positions of each sequence before padding `[b]`; used by a model that
                is not causal.
        """
        rows = torch.stack([table(ids[:, r]) for r, table in enumerate(self.tables)])
        x = self.attention(rows.transpose(0, 1))[0] if self.attention else rows.sum(0)
        if phones is not None:
            x = x + torch.stack([table(phones[:, r]) for r, table in enumerate(self.told)]).sum(0)
        before = cache[0][0].shape[2] if cache else 0
        rotation = self._rotation(before, x.shape[1], x.device, x.dtype)
        mask = None
        if not self.config.causal and lengths is not None:
            mask = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
            mask = mask[:, None, None, :]
        new_cache: Cache = []
        for i, block in enumerate(self.blocks):
            x, keys_values = block(x, rotation, cache[i] if cache else None, mask)
            new_cache.append(keys_values)
        return self.norm(x), new_cache

    def logits(self, hidden: Float[Tensor, "*n d"], row: int) -> Float[Tensor, "*n v"]:
        """Return the logits `[... v]` of one row.

        Args:
            hidden: outputs `[... d]` of `hidden`, at any positions.
            row: the row; v is `vocabulary[row]`.
        """
        return self.heads[row](hidden)

    def forward(self, ids: Ids, lengths: Tensor | None = None) -> list[Tensor]:
        """Return the logits `[b n v]` of each row at every position; `lengths` as for `hidden`."""
        hidden, _ = self.hidden(ids, lengths=lengths)
        return [self.logits(hidden, row) for row in range(len(self.heads))]

    def _rotation(
        self, first: int, n: int, device: torch.device, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """Return cosines and sines of the rotary positions from `first` on, each `[n w]`."""
        width = self.config.width // self.config.heads
        frequencies = 10000.0 ** (-torch.arange(0, width, 2, device=device) / width)
        angles = torch.arange(first, first + n, device=device)[:, None] * frequencies
        return angles.cos().to(dtype), angles.sin().to(dtype)


def _rotated(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Return queries or keys with the rotary positions applied."""
    a, b = x.chunk(2, -1)
    cos, sin = rotation
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)
