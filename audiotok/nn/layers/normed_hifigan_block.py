"""HiFi-GAN's block with a normalisation over the clip after each chain, as in HiFi-Codec."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from torch import nn

from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.base import Layer, WholeClip
from audiotok.nn.layers.group_norm import GroupNorm
from audiotok.nn.layers.hifigan_block import HifiganBlock


class NormedHifiganBlock(WholeClip):
    """Chains of residual units `[b d t]`, whose sum is normalised each time that one is added.

        y = norm_1(chain_1(x));  y = norm_2(y + chain_2(x));  y = norm_3(y + chain_3(x));  y / 3

    Args:
        features: width of input and output.
        activation: function that creates an activation of a given width.
        kernels, dilations: as in `HifiganBlock`.
        groups: groups of each `GroupNorm`.
        eps: epsilon of each.

    Source: HiFi-Codec (Yang et al. 2023, arXiv:2305.02765); its program, and that of InspireMusic.
    """

    def __init__(
        self,
        features: int,
        *,
        activation: Callable[[int], Layer],
        kernels: Sequence[int] = (3, 7, 11),
        dilations: Sequence[int] = (1, 3, 5),
        groups: int = 1,
        eps: float = 1e-6,
    ) -> None:
        super().__init__(features)
        self.block = HifiganBlock(
            features, activation=activation, kernels=kernels, dilations=dilations, causal=False
        )
        self.norms = nn.ModuleList(GroupNorm(features, groups=groups, eps=eps) for _ in kernels)

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`."""
        total = None
        for chain, norm in zip(self.block, cast("list[GroupNorm]", self.norms), strict=True):
            y = chain(x)
            total = norm(y if total is None else total + y)
        assert total is not None
        return total / len(self.norms)
