"""Residual finite scalar quantization: a fine grid read as several coarse ones inside each other.

17 levels     |-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-|
5, then 5     |-------+-------+-------+-------|      the nearest of 5,
                  |-+-+-+-|                          then of 5 as far as half a step away
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from audiotok._platform.shapes import Codes, Latent
from audiotok.nn.quantizers.base import Lazy, Quantized
from audiotok.nn.quantizers.fsq import Fsq


class ResidualFsq(Fsq):
    """`codebooks` grids of `levels`, each over what the one before left: finer by L - 1.

    It has the weights of `Fsq`, with or without residuals: trained as one grid, read as several
    afterwards. 2 grids of [5]^6 or 4 of [3]^6 say exactly what one of [17]^6 says:

    | trained as | read as | codes a frame | bits/s at 25 frames/s |
    |---|---|---|---|
    | 1 x [17]^6 | 1 x [6]^6 (coarser) | 46,656 | 387.7 |
    | 1 x [17]^6 | 2 x [5]^6 | 15,625 each | 696.6 |
    | 1 x [17]^6 | 4 x [3]^6 | 729 each | 951.0 |

    Args:
        features: width d of the latent.
        levels: values of each feature in a grid.
        codebooks: grids.

    Source: Parker et al. 2024, arXiv:2411.19842, section 3.2.1.
    """

    def __init__(
        self, features: int, *, levels: Sequence[int] = (5, 5, 5, 5, 5, 5), codebooks: int = 2
    ) -> None:
        super().__init__(features, levels=levels)
        self.sizes = self.sizes * codebooks

    def finer(self, stage: int) -> Tensor:
        """How much finer than the first a grid is, by feature: 1, L - 1, (L - 1)^2 ..."""
        return (self.levels - 1) ** stage

    def stages(self, bounded: Tensor, codebooks: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Codes `[b f]` and what they stand for `[b f w]`, grid by grid.

        Where L - 1 is a power of two, no step of this rounds.
        """
        for stage in range(codebooks):
            level = self.nearest(bounded * self.finer(stage))
            value = self.value(level) / self.finer(stage)
            bounded = bounded - value
            yield self.join(level), value

    def forward(self, latent: Latent, keep: Tensor | None = None) -> Quantized:
        """See `Quantizer.forward`; `commitment` is of each grid in use what it and those before it
        leave over, a mean square."""
        used = torch.arange(self.codebooks, device=latent.device).expand(len(latent), -1)
        used = used < (self.codebooks if keep is None else keep[:, None])
        with torch.autocast(latent.device.type, enabled=False):
            bounded = self.bound(self.narrow(latent))
            codes, values = zip(*self.stages(bounded.detach(), self.codebooks), strict=True)
            so_far = torch.stack(values).cumsum(0)
            lost = (bounded - so_far).square().mean((2, 3)).T  # [b k]
            total = (torch.stack(values, 1) * used[:, :, None, None]).sum(1)
            made = self.up(bounded + (total - bounded).detach()).transpose(1, 2)

        def alone(stage: int) -> Tensor:
            with torch.autocast(latent.device.type, enabled=False):
                value = bounded + (values[stage] - bounded).detach()
                if stage and isinstance(self.up, torch.nn.Linear):
                    wide = F.linear(value, self.up.weight)  # the first has the bias for all
                else:
                    wide = self.up(value)
                return wide.transpose(1, 2).to(latent.dtype)

        return Quantized(
            latent=made.to(latent.dtype),
            codes=torch.stack(codes, 1),
            losses={"commitment": (lost * used).sum() / used.sum().clamp(min=1)},
            first=alone(0),
            stages=Lazy(self.codebooks, alone),
        )

    @torch.no_grad()
    def encode(self, latent: Latent, codebooks: int | None = None) -> Codes:
        """Codes of the first `codebooks` grids (all if None)."""
        codebooks = self.check(codebooks)
        with torch.autocast(latent.device.type, enabled=False):
            bounded = self.bound(self.narrow(latent))
            return torch.stack([codes for codes, _ in self.stages(bounded, codebooks)], 1)

    def decode(self, codes: Codes) -> Latent:
        """Sum of what the codes stand for; they may be those of any prefix of the grids."""
        self.check(codes.shape[1])
        with torch.autocast(codes.device.type, enabled=False):
            parts = [
                self.value(self.split(rows)) / self.finer(stage)
                for stage, rows in enumerate(codes.unbind(1))
            ]
            return self.up(torch.stack(parts).sum(0)).transpose(1, 2)
