"""A small decoder-only transformer over the rows of a layout, after the text of a recording.

    text      t0 t1 t2 | begin c  c  c  c  end       one row, or
    row 0              | begin c  c  c  c  end -
    row 1     -  -  -  | begin -  c  c  c  c   -     rows: embeddings are summed, heads are apart

Rotary positions (Su et al. 2021), RMSNorm, SwiGLU: Llama's block (arXiv:2302.13971). With
`causal = False` the same network is VALL-E's non-autoregressive model: every position sees all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from audiotok._platform.config import BELOW_ONE, ONE_OR_MORE
from audiotok.lm.phonetic import TOLD

Ids = Int[Tensor, "b r n"]
Hidden = Float[Tensor, "b n d"]
Cache = list[tuple[Tensor, Tensor]]  # keys and values of each block, [b heads n width]


@dataclass(frozen=True)
class Config:
    """Sizes of the network."""

    width: Annotated[int, ONE_OR_MORE] = 256
    depth: Annotated[int, ONE_OR_MORE] = 6
    heads: Annotated[int, ONE_OR_MORE] = 4
    dropout: Annotated[float, BELOW_ONE] = 0.1
    causal: bool = True
    entries: bool = False  # begin with the codec's codebooks: see `audiotok.lm.entries`
    phones: bool = False  # told, at each frame, which phone is said: see `audiotok.lm.phonetic`


class Block(nn.Module):
    """Attention and a gated feed-forward layer, each added to what comes in."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, inner = config.width, -(-8 * config.width // 3 // 32) * 32
        self.heads, self.dropout, self.causal = config.heads, config.dropout, config.causal
        self.first, self.second = nn.RMSNorm(width), nn.RMSNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.gate = nn.Linear(width, 2 * inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def forward(
        self,
        x: Hidden,
        turn: tuple[Tensor, Tensor],
        past: tuple[Tensor, Tensor] | None,
        seen: Tensor | None,
    ) -> tuple[Hidden, tuple[Tensor, Tensor]]:
        """Also gives the keys and values, those of the past included."""
        b, n, d = x.shape
        heads = self.qkv(self.first(x)).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = _turned(heads[0], turn), _turned(heads[1], turn), heads[2]
        if past is not None:
            k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
        if self.causal and past is not None and n > 1:
            seen = torch.ones(n, k.shape[2], dtype=torch.bool, device=x.device)
            seen = seen.tril(k.shape[2] - n)
        y = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=seen,
            is_causal=self.causal and past is None and n > 1,
            # No dropout: with it torch has no fused attention on a CPU (1.3 x the time of a step).
        )
        y = self.out(y.transpose(1, 2).reshape(b, n, d))
        x = x + F.dropout(y, self.dropout, self.training)
        gate, inner = self.gate(self.second(x)).chunk(2, -1)
        y = self.down(F.silu(gate) * inner)
        return x + F.dropout(y, self.dropout, self.training), (k, v)


class Transformer(nn.Module):
    """Ids to the logits of the next ones.

    Args:
        vocabulary: ids of each row.
        text: further ids of the first row, after its own, that are read but never predicted.
        config: sizes.
    """

    def __init__(self, vocabulary: Sequence[int], text: int, config: Config) -> None:
        super().__init__()
        if config.width % (2 * config.heads):
            raise ValueError(f"width {config.width} is no multiple of 2 x {config.heads} heads")
        self.vocabulary, self.text, self.config = tuple(vocabulary), text, config
        sizes = [size + (text if row == 0 else 0) for row, size in enumerate(vocabulary)]
        self.tables = nn.ModuleList(nn.Embedding(size, config.width) for size in sizes)
        # What a frame is told, and whether its phone ends with it.
        self.told = nn.ModuleList(
            nn.Embedding(size, config.width) for size in (TOLD if config.phones else ())
        )
        self.turn = nn.Linear(config.width, 2, bias=False) if config.phones else None
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.RMSNorm(config.width)
        self.heads = nn.ModuleList(nn.Linear(config.width, size, bias=False) for size in vocabulary)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        for block in self.blocks:
            assert isinstance(block, Block)
            for layer in (block.out, block.down):
                nn.init.normal_(layer.weight, std=0.02 / (2 * config.depth) ** 0.5)

    def hidden(
        self,
        ids: Ids,
        *,
        told: Int[Tensor, "b _ n"] | None = None,
        cache: Cache | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Hidden, Cache]:
        """What the last block makes of ids, and a new cache.

        Args:
            ids: `[b r n]`.
            told: `[b told n]` of the frames to come, where the model is told of phones.
            cache: of the ids before, in generation.
            lengths: `[b]`, how many positions are real; only needed where later ones are seen.
        """
        x = torch.stack([table(ids[:, r]) for r, table in enumerate(self.tables)]).sum(0)
        if told is not None:
            x = x + torch.stack([table(told[:, r]) for r, table in enumerate(self.told)]).sum(0)
        before = cache[0][0].shape[2] if cache else 0
        turn = self._angles(before, x.shape[1], x.device, x.dtype)
        seen = None
        if not self.config.causal and lengths is not None:
            seen = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
            seen = seen[:, None, None, :]
        made: Cache = []
        for i, block in enumerate(self.blocks):
            x, kept = block(x, turn, cache[i] if cache else None, seen)
            made.append(kept)
        return self.norm(x), made

    def logits(self, hidden: Float[Tensor, "*n d"], row: int) -> Float[Tensor, "*n v"]:
        """Of one row's ids, v = vocabulary[row], at positions `[... d]` of what `hidden` gives."""
        return self.heads[row](hidden)

    def forward(self, ids: Ids, lengths: Tensor | None = None) -> list[Tensor]:
        """Logits `[b n vocabulary]` of each row, at every position."""
        hidden, _ = self.hidden(ids, lengths=lengths)
        return [self.logits(hidden, row) for row in range(len(self.heads))]

    def _angles(
        self, first: int, n: int, device: torch.device, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        width = self.config.width // self.config.heads
        turn = 10000.0 ** (-torch.arange(0, width, 2, device=device) / width)
        angles = torch.arange(first, first + n, device=device)[:, None] * turn
        return angles.cos().to(dtype), angles.sin().to(dtype)


def _turned(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    a, b = x.chunk(2, -1)
    cos, sin = turn
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)
