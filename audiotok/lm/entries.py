"""Embeddings that begin as the codec's codebook entries: what sounds alike is near from the start.

Codes of a residual codebook are nearly uniform, and each comes a few hundred times in an hour: by
number alone a model is slow to learn them. What the decoder adds up, its first layer then adds up.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from audiotok.codecs.models.base import Codec
from audiotok.lm.layout import Layout
from audiotok.lm.layout.base import NONE
from audiotok.lm.model import Transformer

SCALE = 0.1  # root mean square of an entry's coordinates, beside 0.02 of what is drawn
FRAMES = 8  # of a code: quantizers of several rates take groups of frames


@torch.no_grad()
def entries(codec: Codec, codebook: int) -> Tensor:
    """What each code of a codebook adds to the latent, about their mean: `[size d]`."""
    size = codec.sizes[codebook]
    codes = torch.zeros(size, codec.codebooks, FRAMES, dtype=torch.long, device=codec.device)
    codes[:, codebook] = torch.arange(size, device=codec.device)[:, None]
    made = codec.quantizer.decode(codes)[..., 0].float()
    return made - made.mean(0)


@torch.no_grad()
def begin_with_entries(model: Transformer, layout: Layout, codec: Codec) -> None:
    """Gives a model's embeddings, and what it compares its output with, the codec's entries.

    Where they have more coordinates than the model is wide, the directions in which they vary most
    are kept. Pieces begin as the mean of their units; marks, text and durations stay as drawn.

    Args:
        model: a new one, of the layout.
        layout: of codes of this codec.
        codec: that made them.

    Raises:
        ValueError: the codec has other codebooks.
    """
    k, width = len(layout.sizes), model.config.width
    books = [entries(codec, q % codec.codebooks) for q in range(k)]
    if tuple(map(len, books)) != layout.sizes:
        raise ValueError(f"{codec.name} has codebooks of {codec.sizes}, the layout {layout.sizes}")
    every = torch.cat(books)
    _, vectors = torch.linalg.eigh(every.T @ every)  # in ascending order
    every = every @ vectors.flip(1)[:, :width]
    every = (every * SCALE / every.pow(2).mean().sqrt()).to(model.tables[0].weight)
    if layout.learned is not None:
        if layout.runs == "durations":
            raise ValueError("pieces of codes and durations have no entries to begin with")
        flat, starts = layout.learned.flat, layout.learned.starts
        summed = np.add.reduceat(every.cpu().numpy()[flat], starts, 0)
        every = torch.from_numpy(summed / layout.learned.lengths[:, None]).to(every)
    first = layout.offset + NONE
    parts = [every] if layout.serial else every.split(list(layout.sizes))
    for table, head, part in zip(model.tables, model.heads, parts, strict=False):
        assert isinstance(table, nn.Embedding)
        assert isinstance(head, nn.Linear)
        for weight, scale in ((table.weight, 1.0), (head.weight, 0.02 / SCALE)):
            weight[first : first + len(part), : part.shape[1]] = part * scale
