"""Finite scalar quantization: each feature is bounded and rounded to a few levels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from operator import mul
from typing import Literal

import torch
from torch import Tensor

from audiotok._platform.errors import InputError
from audiotok.nn.quantizers.base import Count, OneCode


class Fsq(OneCode):
    """Quantizer to a fixed grid of `levels` values per feature, which cannot collapse.

    The grid needs no loss; `commitment`, the mean square of the rounding error, is only for
    monitoring. The gradient passes straight through the rounding.

    Args:
        features: width d of the latent; linear maps are added where it is not `len(levels)`.
        levels: number of values of each feature, at least 2 (3 with the original rule); the first
            feature is the least significant digit of the code.
        rule: `symmetric`: Q(x) = 2/(L-1) floor((L-1)(tanh x + 1)/2 + 1/2) - 1, which makes coarse
            grids part of fine ones (`residual_fsq`); or `original`, where zero is on every grid and
            becomes itself; or `tangent`, as the code in appendix A has it, where zero becomes
            almost itself on an even grid.
        limit: with the latter rules, the limit of a bounded feature over the outermost level.
        bounds: how often features are bounded in a row: twice by residual FSQ of others' programs
            before its first grid.
        dither: share of recordings that get uniform noise as wide as a step instead of rounding in
            training: the mean is the bounded latent, so that the gradient has no bias.

    Source: Mentzer et al. 2023, arXiv:2309.15505, section 3 and appendix A; symmetric rule and
    dither: Parker et al. 2024, arXiv:2411.19842, section 3.2.

    Raises:
        ValueError: a feature has too few levels, or there are more codes than 64 bits can count.
    """

    levels: Tensor
    places: Tensor

    def __init__(
        self,
        features: int,
        *,
        levels: Sequence[Count] = (8, 5, 5, 5),
        rule: Literal["symmetric", "original", "tangent"] = "symmetric",
        limit: float = 1.001,  # so that tanh need not be 1 for the last level
        bounds: Count = 1,
        dither: float = 0.0,
    ) -> None:
        least = 2 if rule == "symmetric" else 3
        if min(levels, default=0) < least or math.prod(levels) >= 2**63:
            raise InputError(
                f"levels {tuple(levels)}: give {least} or more each, less than 2^63 codes in all"
            )
        super().__init__(features, len(levels))
        self.sizes = (math.prod(levels),)
        self.rule = rule
        self.limit = limit
        self.bounds = bounds
        self.dither = dither
        # Integers of 64 bits, as float32 is exact to 2^24 only, which is less than 17^6.
        self.register_buffer("levels", torch.tensor(list(levels)), persistent=False)
        places = list(accumulate(levels[:-1], mul, initial=1))
        self.register_buffer("places", torch.tensor(places), persistent=False)

    @property
    def per_unit(self) -> Tensor:
        """Steps of the grid per unit, by feature."""
        return (self.levels - 1) / 2 if self.rule == "symmetric" else (self.levels // 2).float()

    def bound(self, x: Tensor) -> Tensor:
        """Squash features `[... w]` into the range of the grid, about -1 to 1."""
        for _ in range(1, self.bounds):
            x = self._bounded(x) * self.per_unit
        return self._bounded(x)

    def _bounded(self, x: Tensor) -> Tensor:
        if self.rule == "symmetric":
            return x.tanh()
        limit = (self.levels - 1) * self.limit / 2
        even = 0.5 * (self.levels % 2 == 0)
        shift = (even / limit).tan() if self.rule == "tangent" else (even / limit).atanh()
        return ((x + shift).tanh() * limit - even) / self.per_unit

    def nearest(self, bounded: Tensor) -> Tensor:
        """Round each bounded feature to a level, 0 to L - 1."""
        per_unit = self.per_unit
        steps = bounded * per_unit
        level = steps.round()
        if self.rule == "symmetric":
            # Halves are rounded up, as by floor(x + 1/2), without the rounding error of that sum.
            up = level + (steps - level == 0.5)
            level = torch.where(self.levels % 2 == 0, steps.floor() + 0.5, up)
        return (
            (level + per_unit).long().clamp(min=torch.zeros_like(self.levels), max=self.levels - 1)
        )

    def value(self, level: Tensor) -> Tensor:
        """Return the values of levels, about -1 to 1."""
        return (level - self.per_unit) / self.per_unit

    def join(self, level: Tensor) -> Tensor:
        """Combine levels `[... w]` into codes `[...]`."""
        return (level * self.places).sum(-1)

    def split(self, index: Tensor) -> Tensor:
        """Split codes `[...]` into levels `[... w]`."""
        return index[..., None] // self.places % self.levels

    def quantize(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `OneCode.quantize`."""
        bounded = self.bound(x)
        level = self.nearest(bounded.detach())
        error = bounded - self.value(level)
        shift = error.detach()
        if self.training and self.dither:
            noise = (0.5 - torch.rand_like(shift)) / self.per_unit
            dithered = torch.rand(len(shift), 1, 1, device=shift.device) < self.dither
            shift = torch.where(dithered, noise, shift)
        return bounded - shift, self.join(level), error.square().mean()

    def search(self, x: Tensor) -> Tensor:
        """See `OneCode.search`."""
        return self.join(self.nearest(self.bound(x)))

    def look_up(self, index: Tensor) -> Tensor:
        """See `OneCode.look_up`."""
        return self.value(self.split(index))
