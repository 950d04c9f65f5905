"""Embedding of the codes of several layers as one vector a frame, weighted by learnt attention.

    codes [b k f] -> an embedding each (ids offset by codebook) -> softmax over codebooks -> [b f d]

Whoever reads k-means units of several layers so lets each task choose its layers: low ones for who
speaks, middle ones for what is said.

Source: Mousavi et al. 2024, arXiv:2406.10735, section 3.2, and DASB, arXiv:2406.14294.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from audiotok._platform.errors import InputError

Vectors = Float[Tensor, "b k f d"]
Weights = Float[Tensor, "b k f"]
Combined = Float[Tensor, "b f d"]
GivenCodes = Int[Tensor, "b k f"]


class LayerAttention(nn.Module):
    """Weighted sum of vectors of several layers, whose weights follow from the vectors.

    Args:
        width: features of a vector.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1, bias=False)
        )

    def forward(
        self, vectors: Vectors, given: Bool[Tensor, "b k f"] | None = None
    ) -> tuple[Combined, Weights]:
        """Return the sum for each frame, and the weight of each layer in it.

        Args:
            vectors: vectors `[b k f d]` of k layers.
            given: which of them there are; all if None. Weights of the others are 0, and those of a
                frame sum to 1 unless it has none.
        """
        weights = self.weights(self.score(vectors)[..., 0], given)
        return (weights[..., None] * vectors).sum(1), weights

    def weights(
        self, scores: Float[Tensor, "b k f"], given: Bool[Tensor, "b k f"] | None = None
    ) -> Weights:
        """Return the weight of each layer by its score; see `forward`."""
        if given is None:
            return scores.softmax(1)
        least = torch.finfo(scores.dtype).min
        return scores.masked_fill(~given, least).softmax(1).masked_fill(~given, 0)


class CodeEmbedding(nn.Module):
    """Embedding of codes `[b k f]` as one vector a frame.

    Code c of codebook q has row c + the sizes of the codebooks before q, so that no two codebooks
    share one. A code of -1 is none: so layers are left out, and recordings padded.

    Args:
        sizes: entries in each codebook.
        width: features of a vector.

    Raises:
        InputError: no codebooks, or one without entries.
    """

    offset: Tensor

    def __init__(self, sizes: Sequence[int], width: int) -> None:
        super().__init__()
        if not sizes or min(sizes) < 1:
            raise InputError(f"codebooks of {list(sizes)} entries: each needs at least one")
        self.table = nn.Embedding(sum(sizes), width)
        self.register_buffer("offset", torch.tensor([0, *sizes]).cumsum(0)[:-1, None])
        self.attention = LayerAttention(width)

    def forward(self, codes: GivenCodes) -> tuple[Combined, Weights]:
        """Return vectors, and the weight of each codebook in each frame.

        Weights of a frame sum to 1, unless all its codes are -1: its vector is then 0.
        """
        ids = codes.clamp(min=0) + self.offset
        # An entry has one score wherever it stands, and there are fewer entries than codes.
        scores = self.attention.score(self.table.weight)[ids, 0]
        weights = self.attention.weights(scores, codes >= 0)
        bags, shares = (x.transpose(1, 2).flatten(0, 1) for x in (ids, weights))
        vectors = F.embedding_bag(bags, self.table.weight, mode="sum", per_sample_weights=shares)
        return vectors.view(len(codes), codes.shape[2], -1), weights
