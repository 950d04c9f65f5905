"""Residual finite scalar quantization: a fine grid is read as several nested coarse grids.

17 levels     |-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-|
5, then 5     |-------+-------+-------+-------|      the nearest of 5 levels,
                  |-+-+-+-|                          then of 5 within half a step of it
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from audiotok._platform.shapes import Codes, Latent
from audiotok.nn.quantizers.base import Count, LazySequence, Quantized
from audiotok.nn.quantizers.fsq import Fsq


class ResidualFsq(Fsq):
    """Residual quantizer of `codebooks` grids, each finer than the one before by L - 1.

    It has the weights of `Fsq`, so a codec can be trained with one grid and read with several
    afterwards: 2 grids of [5]^6 or 4 of [3]^6 hold exactly the same values as one of [17]^6.

    | trained as | read as | codes per frame | bits/s at 25 frames/s |
    |---|---|---|---|
    | 1 x [17]^6 | 1 x [6]^6 (coarser) | 46,656 | 387.7 |
    | 1 x [17]^6 | 2 x [5]^6 | 15,625 each | 696.6 |
    | 1 x [17]^6 | 4 x [3]^6 | 729 each | 951.0 |

    Args:
        features: width d of the latent.
        levels: number of values of each feature in a grid.
        codebooks: number of grids.

    Source: Parker et al. 2024, arXiv:2411.19842, section 3.2.1.
    """

    def __init__(
        self, features: int, *, levels: Sequence[Count] = (5, 5, 5, 5, 5, 5), codebooks: Count = 2
    ) -> None:
        super().__init__(features, levels=levels)
        self.sizes = self.sizes * codebooks

    def finer(self, grid: int) -> Tensor:
        """Return by which factor a grid is finer than the first, by feature: (L - 1)^grid."""
        return (self.levels - 1) ** grid

    def stages(self, bounded: Tensor, codebooks: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the codes `[b f]` and their values `[b f w]` for each grid.

        Where L - 1 is a power of two, this arithmetic is exact.

        Args:
            bounded: bounded features `[b f w]`.
            codebooks: number of grids.
        """
        for grid in range(codebooks):
            level = self.nearest(bounded * self.finer(grid))
            value = self.value(level) / self.finer(grid)
            bounded = bounded - value
            yield self.join(level), value

    def forward(self, latent: Latent, keep: Tensor | None = None) -> Quantized:
        """See `Quantizer.forward`.

        The one loss is `commitment`, the mean square of the residual after each grid in use.
        """
        used = torch.arange(self.codebooks, device=latent.device).expand(len(latent), -1)
        used = used < (self.codebooks if keep is None else keep[:, None])
        with torch.autocast(latent.device.type, enabled=False):
            bounded = self.bound(self.narrow(latent))
            codes, values = zip(*self.stages(bounded.detach(), self.codebooks), strict=True)
            so_far = torch.stack(values).cumsum(0)
            errors = (bounded - so_far).square().mean((2, 3)).T  # [b k]
            total = (torch.stack(values, 1) * used[:, :, None, None]).sum(1)
            wide = self.up(bounded + (total - bounded).detach()).transpose(1, 2)

        def alone(grid: int) -> Tensor:
            """Decode the codes of one grid alone."""
            with torch.autocast(latent.device.type, enabled=False):
                value = bounded + (values[grid] - bounded).detach()
                if grid and isinstance(self.up, torch.nn.Linear):
                    part = F.linear(value, self.up.weight)  # the bias belongs to the first grid
                else:
                    part = self.up(value)
                return part.transpose(1, 2).to(latent.dtype)

        return Quantized(
            latent=wide.to(latent.dtype),
            codes=torch.stack(codes, 1),
            losses={"commitment": (errors * used).sum() / used.sum().clamp(min=1)},
            first=alone(0),
            stages=LazySequence(self.codebooks, alone),
        )

    @torch.no_grad()
    def encode(self, latent: Latent, codebooks: int | None = None) -> Codes:
        """See `Quantizer.encode`."""
        codebooks = self.check(codebooks)
        with torch.autocast(latent.device.type, enabled=False):
            bounded = self.bound(self.narrow(latent))
            return torch.stack([codes for codes, _ in self.stages(bounded, codebooks)], 1)

    def decode(self, codes: Codes) -> Latent:
        """See `Quantizer.decode`; the values of all grids are added."""
        self.check(codes.shape[1])
        with torch.autocast(codes.device.type, enabled=False):
            parts = [
                self.value(self.split(rows)) / self.finer(grid)
                for grid, rows in enumerate(codes.unbind(1))
            ]
            return self.up(torch.stack(parts).sum(0)).transpose(1, 2)
