"""Vector quantization of parts of a latent by one codebook of directions, which they share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from audiotok._platform.errors import InputError
from audiotok._platform.shapes import Latent
from audiotok.nn.quantizers.base import PartedQuantizer, Quantizer
from audiotok.nn.quantizers.cosine_vq import CosineVq


class SharedVq(PartedQuantizer):
    """Quantizer of groups of neighbouring features, each to the direction of one set of entries.

    A prefix of the codes decodes: features of groups that are missing are zero. In training the
    entries follow the groups one after the other.

    Args:
        features: width d of the latent.
        codebooks: number of groups, a divisor of d.
        size: number of entries.
        decay: decay of the moving averages; 1 for entries that stay as they are.
        seed: random seed of the initial entries.

    Raises:
        ValueError: the number of groups does not divide the features.

    Source: Chen et al. 2022, arXiv:2212.09058, section 3.2: the patches of a spectrogram.
    """

    def __init__(
        self,
        features: int,
        *,
        codebooks: int = 8,
        size: int = 1024,
        decay: float = 0.99,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if features % codebooks:
            raise InputError(f"{features} features in {codebooks} groups: they do not divide")
        self.sizes = (size,) * codebooks
        self.book = CosineVq(
            features // codebooks,
            size=size,
            width=features // codebooks,
            decay=decay,
            seed=seed,
        )

    def quantizers(self) -> list[Quantizer]:
        """See `PartedQuantizer.quantizers`; the same one for all."""
        return [self.book] * self.codebooks

    def views(self, latent: Latent) -> Sequence[Tensor]:
        """See `PartedQuantizer.views`; the features of each group."""
        return latent.chunk(self.codebooks, 1)

    def combined(self, outputs: Sequence[Tensor | None]) -> Latent:
        """See `PartedQuantizer.combined`; groups side by side, zeros for those without codes."""
        like = next(output for output in outputs if output is not None)
        return torch.cat([torch.zeros_like(like) if x is None else x for x in outputs], 1)
