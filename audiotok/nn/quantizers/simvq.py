"""SimVQ: the codebook is a frozen random one behind a learnt linear map.

A training step moves all entries, including those that no latent is near, so that none dies.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiotok.nn.clusters import nearest
from audiotok.nn.derived import Derived
from audiotok.nn.quantizers.base import Count, OneCode


class Simvq(OneCode):
    """Nearest-entry quantizer with d^2 + d learnt parameters, however many entries there are.

    Args:
        features: width d of the latent.
        size: number of entries.
        seed: random seed of the frozen codebook, which is saved with the weights all the same.

    Source: Zhu et al. 2024, arXiv:2411.02038, section 4; its weights, beta = 0.25.
    """

    frozen: Tensor

    def __init__(self, features: int, *, size: Count = 4096, seed: int = 0) -> None:
        super().__init__(features, features)
        self.sizes = (size,)
        random = torch.Generator().manual_seed(seed)
        frozen = torch.randn(size, features, generator=random) * features**-0.5
        self.register_buffer("frozen", frozen)
        self.map = nn.Linear(features, features)
        self._codebook: Derived[tuple[Tensor, Tensor]] = Derived()

    def codebook(self) -> tuple[Tensor, Tensor]:
        """Return all entries `[size d]` and their squared lengths, kept until weights change."""
        parts = (self.frozen, self.map.weight, self.map.bias)
        return self._codebook.of(parts, self._entries)

    @torch.no_grad()
    def _entries(self) -> tuple[Tensor, Tensor]:
        entries = self.map(self.frozen)
        return entries, entries.square().sum(1)

    def quantize(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `OneCode.quantize`; the loss is commitment plus four times the entries' own."""
        index = self.search(x.detach())
        entry = self.look_up(index)
        loss = (x - entry.detach()).square().mean() + 4 * (x.detach() - entry).square().mean()
        return x + (entry - x).detach(), index, loss

    def search(self, x: Tensor) -> Tensor:
        """See `OneCode.search`."""
        return nearest(x.flatten(0, 1), *self.codebook()).view(x.shape[:2])

    def look_up(self, index: Tensor) -> Tensor:
        """See `OneCode.look_up`."""
        return self.map(F.embedding(index, self.frozen))
