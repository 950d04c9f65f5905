"""Product of scalar quantizers: groups of neighbouring features, each on a grid of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from audiotok._platform.errors import InputError
from audiotok._platform.shapes import Latent
from audiotok.nn.quantizers.base import PartedQuantizer, Quantizer
from audiotok.nn.quantizers.fsq import Fsq


class ProductFsq(PartedQuantizer):
    """Product quantizer whose groups of features are rounded to grids of the same `levels`.

    A prefix of the codes can be decoded: features of missing groups are zero.

    Args:
        features: width d of the latent, a multiple of the number of `levels`.
        levels: number of values of each feature of a group.
        rule: as in `Fsq`.
        limit: as in `Fsq`.

    Attributes:
        levels: `[k w]`, number of values of each feature of each group; part of the state, as it
            tells the grid.

    Source: Langman et al. 2024, arXiv:2406.05298 (grouped FSQ).

    Raises:
        ValueError: the features are not a multiple of the levels, or as in `Fsq`.
    """

    levels: Tensor

    def __init__(
        self,
        features: int,
        *,
        levels: Sequence[int] = (9, 8, 8, 7),
        rule: Literal["symmetric", "original", "tangent"] = "tangent",
        limit: float = 0.999,
    ) -> None:
        super().__init__()
        self.width = len(levels)
        if features % self.width:
            raise InputError(f"{features} features in groups of {self.width}: they do not divide")
        groups = features // self.width
        self.parts = nn.ModuleList(
            Fsq(self.width, levels=levels, rule=rule, limit=limit) for _ in range(groups)
        )
        self.sizes = tuple(part.sizes[0] for part in self.quantizers())
        self.register_buffer("levels", torch.tensor([list(levels)] * groups))

    def quantizers(self) -> list[Quantizer]:
        """See `PartedQuantizer.quantizers`."""
        return cast("list[Quantizer]", list(self.parts))

    def views(self, latent: Latent) -> Sequence[Tensor]:
        """See `PartedQuantizer.views`; the features of each group."""
        return latent.split(self.width, 1)

    def combined(self, outputs: Sequence[Tensor | None]) -> Latent:
        """See `PartedQuantizer.combined`; the groups side by side, missing ones zero."""
        some = next(output for output in outputs if output is not None)
        return torch.cat([torch.zeros_like(some) if x is None else x for x in outputs], 1)
