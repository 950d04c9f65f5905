"""Group-residual vector quantization: stages of residuals, each with a codebook for every group.

    latent = [ group 1: 256 features | group 2: 256 features ]
    codes      0: 1024                 1: 1024                  first stage
               2: 1024                 3: 1024                  second stage, of what is left

Groups are independent, so the codes are those of `GroupedRvq` with equal groups, in another order:
here every prefix of them covers all groups as evenly as it can.

Source: HiFi-Codec (Yang et al. 2023, arXiv:2305.02765, section 3.2).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from audiotok._platform.errors import InputError
from audiotok._platform.shapes import Latent
from audiotok.nn.quantizers.base import Codebook, Count
from audiotok.nn.quantizers.rvq import Euclidean, Rvq


class GroupCodebook(Codebook):
    """Codebook of some features of a latent, with zeros for the others.

    Args:
        features: width of the latent.
        first: the first of its features.
        book: codebook of those features.
    """

    def __init__(self, features: int, first: int, book: Euclidean) -> None:
        super().__init__()
        width = book.entries.shape[1]
        self.slice = slice(first, first + width)
        self.around = first, features - first - width
        self.book = book

    @property
    def entries(self) -> Tensor:
        """Entries `[size features]`."""
        return F.pad(self.book.entries, self.around)

    def search(self, x: Tensor) -> Tensor:
        """See `Codebook.search`."""
        return self.book.search(x[:, self.slice])

    def distances(self, x: Tensor) -> Tensor:
        """See `Codebook.distances`."""
        return self.book.distances(x[:, self.slice])

    def look_up(self, index: Tensor) -> Tensor:
        """See `Codebook.look_up`."""
        return F.pad(self.book.look_up(index), self.around)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `Codebook.forward`."""
        entry, index, loss = self.book(x[:, self.slice])
        return F.pad(entry, self.around), index, loss


class Grvq(Rvq):
    """Residual quantizer whose stages code groups of neighbouring features by themselves.

    Codes go stage after stage, and within a stage group after group.

    Args:
        features: width d of the latent.
        groups: number of groups, a divisor of d.
        codebooks: number of codebooks, a multiple of the groups.
        size: entries in each codebook.
        decay, revive: of a codebook (`rvq.Euclidean`).
        seed: of the k-means that initialises them.

    Raises:
        ValueError: groups that do not divide the features or the codebooks.
    """

    def __init__(
        self,
        features: int,
        *,
        groups: Count = 2,
        codebooks: Count = 4,
        size: Count = 1024,
        decay: float = 0.99,
        revive: float = 0.05,
        seed: int = 0,
    ) -> None:
        if features % groups or codebooks % groups:
            raise InputError(
                f"{groups} groups of {features} features and {codebooks} codebooks: a number that "
                "divides both"
            )
        super().__init__(features, codebooks=0)
        self.groups = groups
        self.width = features // groups
        self.sizes = (size,) * codebooks
        self.stages.extend(
            GroupCodebook(
                features,
                i % groups * self.width,
                Euclidean(self.width, size, decay=decay, revive=revive, seed=seed + i),
            )
            for i in range(codebooks)
        )

    def _with_own_gradient(self, codebook: int, latent: Latent) -> Latent:
        """Return the latent with a gradient only for the features that a codebook codes."""
        group = torch.arange(latent.shape[1], device=latent.device) // self.width
        return torch.where(group[:, None] == codebook % self.groups, latent, latent.detach())

    def _without_early_gradient(self, latent: Latent, keep: Tensor | None) -> Latent:
        """Detach the features of groups none of whose codebooks are in use."""
        if keep is None:
            return latent
        group = torch.arange(latent.shape[1], device=latent.device) // self.width
        used = (group < keep[:, None])[:, :, None]
        return torch.where(used, latent, latent.detach())
