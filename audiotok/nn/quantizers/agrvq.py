"""Adaptive-group residual quantization: two small codebooks make one large one, as in LongCat.

rest --+- 1024 -> 8 -> nearest of 90, a -> 8 -> 512 --+-- side by side, 1024; code 90 a + b
       +- 1024 -> 8 -> nearest of 90, b -> 8 -> 512 --+
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from audiotok.nn.quantizers.base import Codebook
from audiotok.nn.quantizers.rvq import Factorised, Rvq


class Pair(Codebook):
    """Two factorised codebooks that both see the whole latent and each make half of it.

    A frame's code is a x size + b: `size`^2 codes for 2 x `size` entries.
    """

    def __init__(self, features: int, size: int, *, width: int) -> None:
        super().__init__()
        self.size = size
        self.halves = nn.ModuleList(Factorised(features, size, width=width) for _ in range(2))
        for half in self._halves():
            half.up = nn.Linear(width, features // 2)

    def _halves(self) -> list[Factorised]:
        return cast("list[Factorised]", list(self.halves))

    def search(self, x: Tensor) -> Tensor:
        """`[n d]` to codes `[n]`."""
        a, b = (half.search(x) for half in self._halves())
        return a * self.size + b

    def look_up(self, index: Tensor) -> Tensor:
        """Codes of any shape to latents, features last."""
        parts = (index // self.size, index % self.size)
        halves = zip(self._halves(), parts, strict=True)
        return torch.cat([half.look_up(part) for half, part in halves], -1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`[n d]` to latents `[n d]`, codes `[n]` and the mean loss of both halves `[n]`."""
        (one, a, lost), (other, b, also) = (half(x) for half in self._halves())
        return torch.cat([one, other], 1), a * self.size + b, (lost + also) / 2


class Agrvq(Rvq):
    """Residual stages of `Pair`; all else is as of `Rvq`.

    At its published size it has 84,288 parameters, with the projections' weight norm.

    Args:
        features: width d of the latent; even.
        codebooks: stages.
        size: entries in either half of a stage; a codebook has its square of codes.
        width: features that entries are searched in.

    Source: LongCat-Audio-Codec 2025, arXiv:2510.15227, and its published inference code.

    Raises:
        ValueError: an odd number of features.
    """

    def __init__(
        self, features: int, *, codebooks: int = 3, size: int = 90, width: int = 8
    ) -> None:
        super().__init__(features, codebooks=0)
        if features % 2:
            raise ValueError(f"{features} features cannot be halved: give an even number")
        self.sizes = (size**2,) * codebooks
        self.stages = nn.ModuleList(Pair(features, size, width=width) for _ in range(codebooks))
