"""Initialization of a model's embeddings by the codec's codebook entries.

Codes of a residual codebook are almost uniformly distributed, and each occurs only a few hundred
times in an hour of audio, so a model that knows them by number alone learns slowly. With this
initialization codes that sound alike have similar embeddings from the start, and the model's first
layer sums the same vectors as the codec's decoder.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from audiotok._platform.errors import InputError
from audiotok.codecs.models.base import Codec
from audiotok.lm.layout import Layout
from audiotok.lm.layout.base import NONE
from audiotok.lm.model import Transformer

SCALE = 0.1  # root mean square of an entry's coordinates; randomly drawn weights have 0.02


@torch.no_grad()
def entries(codec: Codec, codebook: int) -> Tensor:
    """Return what each code of a codebook adds to the latent, `[size d]`, centred on their mean.

    Args:
        codec: the codec.
        codebook: number of the codebook, from 0.
    """
    table = codec.quantizer.table(codebook).float()
    return table - table.mean(0)


@torch.no_grad()
def initialize_from_entries(model: Transformer, layout: Layout, codec: Codec) -> None:
    """Set a model's input and output embeddings of codes to the codec's codebook entries, in place.

    Entries with more coordinates than the model's width are projected on their principal
    directions. A piece starts as the mean of its units; marks, text and durations stay as drawn.

    Args:
        model: a new model of the layout.
        layout: a layout of the codec's codes.
        codec: the codec that the codes are of.

    Raises:
        ValueError: the codec has other codebooks, or pieces are made of codes and durations.
    """
    k, width = len(layout.sizes), model.config.width
    books = [entries(codec, q % codec.codebooks) for q in range(k)]
    if tuple(map(len, books)) != layout.sizes:
        raise InputError(f"{codec.name} has codebooks of {codec.sizes}, the layout {layout.sizes}")
    every = torch.cat(books)
    _, vectors = torch.linalg.eigh(every.T @ every)  # in ascending order
    every = every @ vectors.flip(1)[:, :width]
    every = (every * SCALE / every.pow(2).mean().sqrt()).to(model.tables[0].weight)
    if layout.learned is not None:
        if layout.runs == "durations":
            raise InputError("pieces of codes and durations have no entries to begin with")
        flat, starts = layout.learned.flat, layout.learned.starts
        summed = np.add.reduceat(every.cpu().numpy()[flat], starts, 0)
        every = torch.from_numpy(summed / layout.learned.lengths[:, None]).to(every)
    first = layout.offset + NONE
    parts = [every] if layout.serial else every.split(list(layout.sizes))
    for layers, scale in ((model.tables, 1.0), (model.heads, 0.02 / SCALE)):
        for layer, part in zip(layers, parts, strict=False):
            assert isinstance(layer, nn.Embedding | nn.Linear)
            layer.weight[first : first + len(part), : part.shape[1]] = part * scale
