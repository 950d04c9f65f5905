"""Adaptive-group residual quantization of LongCat: two small codebooks act as one large codebook.

rest --+- 1024 -> 8 -> nearest of 90, a -> 8 -> 512 --+-- side by side, 1024; code 90 a + b
       +- 1024 -> 8 -> nearest of 90, b -> 8 -> 512 --+
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from audiotok._platform.errors import InputError
from audiotok.nn.quantizers.base import Codebook, Count
from audiotok.nn.quantizers.rvq import Factorised, Rvq


class PairedCodebook(Codebook):
    """Two factorised codebooks that both search the whole latent and each decode to half of it.

    The code of a frame is a x size + b: `size`^2 codes from 2 x `size` entries.
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
        """Return the codes `[n]` of frames `[n d]`."""
        a, b = (half.search(x) for half in self._halves())
        return a * self.size + b

    def look_up(self, index: Tensor) -> Tensor:
        """Return the latents of codes of any shape, features last."""
        parts = (index // self.size, index % self.size)
        halves = zip(self._halves(), parts, strict=True)
        return torch.cat([half.look_up(part) for half, part in halves], -1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the latents `[n d]`, codes `[n]` and mean losses of both halves `[n]`."""
        (left, a, left_loss), (right, b, right_loss) = (half(x) for half in self._halves())
        return torch.cat([left, right], 1), a * self.size + b, (left_loss + right_loss) / 2


class Agrvq(Rvq):
    """Residual quantizer of `PairedCodebook`s, otherwise as `Rvq`.

    At its published size it has 84,288 parameters, including weight normalisation of the
    projections.

    Args:
        features: width d of the latent, an even number.
        codebooks: number of codebooks.
        size: number of entries in either half of a codebook, which has `size * size` codes.
        width: width of the projection that entries are searched in.

    Source: LongCat-Audio-Codec 2025, arXiv:2510.15227, and its published inference code.

    Raises:
        ValueError: the number of features is odd.
    """

    def __init__(
        self, features: int, *, codebooks: Count = 3, size: Count = 90, width: Count = 8
    ) -> None:
        super().__init__(features, codebooks=0)
        if features % 2:
            raise InputError(f"{features} features cannot be halved: give an even number")
        self.sizes = (size**2,) * codebooks
        self.stages = nn.ModuleList(
            PairedCodebook(features, size, width=width) for _ in range(codebooks)
        )
