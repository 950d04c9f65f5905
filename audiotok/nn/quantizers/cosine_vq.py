"""Vector quantization by direction in a narrow projection, with entries learnt by averages.

An entry may stand for what is no audio (a mask), and never be chosen. Entries of zeros are asleep:
a codebook that grows by such entries codes everything as before, until training wakes them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from audiotok._platform.errors import InputError
from audiotok.nn.clusters import least
from audiotok.nn.derived import Derived
from audiotok.nn.quantizers.base import Count, OneCode


class CosineVq(OneCode):
    """Quantizer to the entry with the least angle, in `width` features.

    In training, entries are the mean directions of the frames that they code, as moving averages;
    the loss is the commitment to the unit vectors of the frames.

    Args:
        features: width d of the latent.
        size: number of entries, with the mask.
        width: features of an entry.
        mask: an entry that is never chosen; none if None.
        decay: decay of the moving averages; 1 for entries that stay as they are.
        revive: usage below which an entry is dead, and becomes a frame of the next batch in
            training; 1 is a fair share.
        seed: random seed of the initial entries.

    Raises:
        ValueError: there is no such entry as the mask.

    Source: Yu et al. 2021, arXiv:2110.04627, section 3.2 (directions in a narrow projection);
    Ichigo, Dao et al. 2024, arXiv:2410.15316, package ichigo-whisper 2.3.0.
    """

    entries: Tensor
    usage: Tensor

    def __init__(
        self,
        features: int,
        *,
        size: Count = 1024,
        width: Count = 8,
        mask: int | None = None,
        decay: float = 0.99,
        revive: float = 0.0,
        seed: int = 0,
    ) -> None:
        if mask is not None and not 0 <= mask < size:
            raise InputError(f"mask {mask}: an entry, 0 to {size - 1}")
        super().__init__(features, width)
        self.sizes = (size,)
        self.mask = mask
        self.decay = decay
        self.revive = revive
        random = torch.Generator().manual_seed(seed)
        entries = F.normalize(torch.randn(size, width, generator=random))
        self.register_buffer("entries", entries)
        self.register_buffer("usage", torch.ones(size))
        self._silent: Derived[Tensor] = Derived()

    def silent(self) -> Tensor:
        """Return which entries are never chosen, bool `[size]`: the mask, and those asleep."""
        return self._silent.of((self.entries,), self._never_chosen)

    @torch.no_grad()
    def _never_chosen(self) -> Tensor:
        silent = (self.entries == 0).all(1)
        if self.mask is not None:
            silent[self.mask] = True
        return silent

    def search(self, x: Tensor) -> Tensor:
        """See `OneCode.search`."""
        scores = F.normalize(x.flatten(0, 1)) @ self.entries.T
        return least(-scores.masked_fill(self.silent(), -torch.inf)).view(x.shape[:2])

    def look_up(self, index: Tensor) -> Tensor:
        """See `OneCode.look_up`."""
        return F.embedding(index, self.entries)

    def quantize(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `OneCode.quantize`; in training mode this also updates the entries."""
        unit = F.normalize(x, dim=2)
        if self.training and self.decay < 1:
            self._wake(unit.detach().flatten(0, 1))
        index = self.search(x.detach())
        entry = self.look_up(index)
        if self.training and self.decay < 1:
            self._update(unit.detach().flatten(0, 1), index.flatten())
        return unit + (entry - unit).detach(), index, (unit - entry).square().mean()

    @torch.no_grad()
    def _wake(self, x: Tensor) -> None:
        """Replace entries of zeros, and dead ones, by frames `[n d]`, drawn at random."""
        asleep = (self.entries == 0).all(1) | (self.usage < self.revive)
        if self.mask is not None:
            asleep[self.mask] = False
        if not asleep.any():
            return
        pick = x[torch.randint(len(x), (len(self.entries),), device=x.device)]
        self.entries.copy_(torch.where(asleep[:, None], pick, self.entries))
        self.usage.masked_fill_(asleep, 1.0)

    @torch.no_grad()
    def _update(self, x: Tensor, index: Tensor) -> None:
        """Turn the entries towards the frames `[n d]` that they coded."""
        count = torch.zeros_like(self.usage).index_add_(0, index, torch.ones_like(x[:, 0]))
        total = torch.zeros_like(self.entries).index_add_(0, index, x)
        share = (1 - self.decay) * len(count) / len(index)
        usage = self.decay * self.usage
        turned = F.normalize(usage[:, None] * self.entries + share * total)
        self.entries.copy_(torch.where(count[:, None] > 0, turned, self.entries))
        self.usage.copy_(usage + share * count)
