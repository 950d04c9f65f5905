"""Residual quantization whose codes decode to entries apart from those that are searched."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiotok._platform.shapes import Codes, Latent
from audiotok.nn.quantizers.base import LazySequence, Quantized
from audiotok.nn.quantizers.rvq import Euclidean, Rvq, full_precision


class Reread(Rvq):
    """Residual quantizer whose codes decode to entries of their own, learnt by gradient.

    They begin as the entries that are searched, once those are initialised.

    Args:
        features: width d of the latent.
        options: options of `Rvq`, of euclidean codebooks.
    """

    def __init__(self, features: int, **options: Any) -> None:
        super().__init__(features, **options)
        self.decoded = nn.ParameterList(book.entries.clone() for book in self._euclidean())

    def _euclidean(self) -> list[Euclidean]:
        return cast("list[Euclidean]", list(self.stages))

    def forward(self, latent: Latent, keep: Tensor | None = None) -> Quantized:
        """See `Rvq.forward`; gradients reach the latent, and the entries of the decoder."""
        books = self._euclidean()
        new = self.training and not books[0].usage.any()
        coded = super().forward(latent, keep)
        if new:
            with torch.no_grad():
                for own, book in zip(self.decoded, books, strict=True):
                    own.copy_(book.entries)
        through = latent - latent.detach()
        parts = [self._look_up(i, rows) for i, rows in enumerate(coded.codes.unbind(1))]
        total = through
        for i, part in enumerate(parts):
            total = total + (part if keep is None else part * (keep > i)[:, None, None])
        return Quantized(
            latent=total,
            codes=coded.codes,
            losses=coded.losses,
            first=parts[0] + through,
            stages=LazySequence(len(parts), lambda i: parts[i] + through),
        )

    def _look_up(self, codebook: int, rows: Tensor) -> Latent:
        """Return the latents `[b d f]` of codes `[b f]`; -1 is no code, and adds nothing."""
        entries = F.embedding(rows.clamp(min=0), self.decoded[codebook])
        return (entries * (rows >= 0)[..., None]).transpose(1, 2)

    def decode(self, codes: Codes) -> Latent:
        """See `Quantizer.decode`; the latent is the sum of the decoder's entries."""
        self.check(codes.shape[1])
        with full_precision(codes):
            parts = [self._look_up(i, rows) for i, rows in enumerate(codes.unbind(1))]
            return torch.stack(parts).sum(0)

    def table(self, codebook: int) -> Tensor:
        """See `Quantizer.table`; the decoder's entries."""
        return self.decoded[codebook].detach()
