"""Residual vector quantization in which each codebook is searched in a projection of its own."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from audiotok.nn.quantizers.base import Codebook, Count
from audiotok.nn.quantizers.rvq import Euclidean, Rvq


class Projected(Codebook):
    """Codebook of nearest entries in a projection to `width` features, learnt by moving averages.

    Args:
        features: width d of the latent.
        size: number of entries.
        width: width of the projection.
        options: other options of `Euclidean`.
    """

    def __init__(self, features: int, size: int, *, width: int, **options: Any) -> None:
        super().__init__()
        self.down = nn.Linear(features, width)
        self.book = Euclidean(width, size, **options)
        self.up = nn.Linear(width, features)

    def search(self, x: Tensor) -> Tensor:
        """See `Codebook.search`."""
        return self.book.search(self.down(x))

    def distances(self, x: Tensor) -> Tensor:
        """See `Codebook.distances`."""
        return self.book.distances(self.down(x))

    def look_up(self, index: Tensor) -> Tensor:
        """See `Codebook.look_up`."""
        return self.up(self.book.look_up(index))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `Codebook.forward`; in training mode this also updates the entries."""
        narrow = self.down(x)
        entry, index, loss = self.book(narrow)
        return self.up(narrow + (entry - narrow).detach()), index, loss


class ProjectedRvq(Rvq):
    """Residual vector quantizer of `Projected` codebooks.

    Args:
        features: width d of the latent.
        codebooks: number of codebooks.
        size: number of entries in each codebook.
        width: width of the projections.
        decay: decay of the moving averages (`rvq.Euclidean`).
        revive: usage below which an entry is replaced (`rvq.Euclidean`).
        seed: random seed of the k-means that initialises the codebooks.

    Source: EnCodec's `VectorQuantization` with `codebook_dim`, which Higgs Audio v2 has.
    """

    def __init__(
        self,
        features: int,
        *,
        codebooks: Count = 8,
        size: Count = 1024,
        width: Count = 64,
        decay: float = 0.99,
        revive: float = 0.05,
        seed: int = 0,
    ) -> None:
        super().__init__(features, codebooks=1, size=1)  # which is replaced
        self.sizes = (size,) * codebooks
        self.stages = nn.ModuleList(
            Projected(features, size, width=width, decay=decay, revive=revive, seed=seed + i)
            for i in range(codebooks)
        )
