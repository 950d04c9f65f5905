"""Vector quantization of parts of a latent by one codebook of directions, which they share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from audiotok._platform.errors import InputError
from audiotok._platform.shapes import Latent
from audiotok.nn.quantizers.base import Count, LazySequence, PartedQuantizer, Quantized, Quantizer
from audiotok.nn.quantizers.cosine_vq import CosineVq


class SharedVq(PartedQuantizer):
    """Quantizer of groups of neighbouring features, each to the direction of one set of entries.

    A prefix of the codes decodes: features of groups that are missing are zero. In training the
    entries are averages of the groups together.

    Args:
        features: width d of the latent.
        codebooks: number of groups, a divisor of d.
        size: number of entries.
        decay: decay of the moving averages; 1 for entries that stay as they are.
        revive: as for `CosineVq`.
        seed: random seed of the initial entries.

    Raises:
        ValueError: the number of groups does not divide the features.

    Source: Chen et al. 2022, arXiv:2212.09058, section 3.2: the patches of a spectrogram.
    """

    def __init__(
        self,
        features: int,
        *,
        codebooks: Count = 8,
        size: Count = 1024,
        decay: float = 0.99,
        revive: float = 0.0,
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
            revive=revive,
            seed=seed,
        )

    def forward(self, latent: Latent, keep: Tensor | None = None) -> Quantized:
        """See `Quantizer.forward`; the one loss is `commitment`, a mean over the groups in use."""
        b, groups = len(latent), self.codebooks
        used = torch.arange(groups, device=latent.device).expand(b, -1)
        used = used < (groups if keep is None else keep[:, None])
        with torch.autocast(latent.device.type, enabled=False):
            x = latent.float().unflatten(1, (groups, -1)).transpose(2, 3)  # [b groups f d]
            entries, codes, _ = self.book.quantize(x.flatten(0, 1))
            losses = F.normalize(x, dim=3) - self.book.look_up(codes).view_as(x)
            losses = losses.square().mean((2, 3)) * used
        parts = entries.view_as(x).transpose(2, 3).to(latent.dtype)  # [b groups d f]

        def alone(k: int) -> Tensor:
            """Decode the k-th code alone."""
            return F.pad(parts[:, k : k + 1], (0, 0, 0, 0, k, groups - 1 - k)).flatten(1, 2)

        return Quantized(
            latent=(parts * used[:, :, None, None]).flatten(1, 2),
            codes=codes.view(b, groups, -1),
            losses={"commitment": losses.sum() / used.sum().clamp(min=1)},
            first=alone(0),
            stages=LazySequence(groups, alone),
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
