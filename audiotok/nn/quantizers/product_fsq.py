"""Product of scalar quantizers: groups of neighbouring features, each on a grid of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from audiotok._platform.errors import InputError
from audiotok.nn.quantizers.base import Count, SideBySide
from audiotok.nn.quantizers.fsq import Fsq


class ProductFsq(SideBySide):
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
    one_pass = True  # there is nothing to learn

    def __init__(
        self,
        features: int,
        *,
        levels: Sequence[Count] = (9, 8, 8, 7),
        rule: Literal["symmetric", "original", "tangent"] = "tangent",
        limit: float = 0.999,
    ) -> None:
        width = len(levels)
        if features % width:
            raise InputError(f"{features} features in groups of {width}: they do not divide")
        groups = features // width
        grids = [Fsq(width, levels=levels, rule=rule, limit=limit) for _ in range(groups)]
        super().__init__([(width, grid) for grid in grids])
        self.register_buffer("levels", torch.tensor([list(levels)] * groups))
