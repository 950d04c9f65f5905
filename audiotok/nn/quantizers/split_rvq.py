"""Split residual vector quantization of Mimi: a semantic codebook parallel to acoustic codebooks.

    latent -> 1x1 -> semantic   1 x 2048  -> 1x1 -\\
    latent -> 1x1 -> acoustic  31 x 2048  -> 1x1 --+-> latent

The acoustic codebooks code the latent itself and not the residual of the semantic one, which is
distilled from a speech teacher and so need not be near the latent.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audiotok._platform.shapes import Codes, Features, Latent, Output
from audiotok.nn.quantizers.base import LazySequence, Quantized, Quantizer
from audiotok.nn.quantizers.rvq import Rvq


class Projected(nn.Module):
    """Residual quantizer in a projection, between two linear maps without bias.

    Args:
        features: width d of the latent.
        width: width of the projection.
        rvq: options of `Rvq`.
    """

    def __init__(self, features: int, width: int, **rvq: int | float) -> None:
        super().__init__()
        self.down = nn.Linear(features, width, bias=False)
        self.rvq = Rvq(width, **rvq)  # pyright: ignore[reportArgumentType]
        self.up = nn.Linear(width, features, bias=False)

    def narrow(self, latent: Features) -> Output:
        """Project latents `[b d f]` to the width of the codebooks."""
        return self.down(latent.transpose(1, 2)).transpose(1, 2)

    def wide(self, latent: Features) -> Output:
        """Project sums of entries back to latents `[b d f]`."""
        return self.up(latent.transpose(1, 2)).transpose(1, 2)


class SplitRvq(Quantizer):
    """Two parallel residual quantizers: the first `semantic` codebooks, and the acoustic ones.

    Args:
        features: width d of the latent.
        codebooks: total number of codebooks.
        size: number of entries in each codebook.
        width: width of the entries; `features` if None.
        semantic: number of semantic codebooks.
        decay: decay of the moving averages (`rvq.Euclidean`).
        revive: usage below which an entry is replaced (`rvq.Euclidean`).
        seed: random seed of the k-means that initialises the codebooks.

    Source: Défossez et al. 2024, arXiv:2410.00037, section 3.3.3; package moshi 0.2.13.

    Raises:
        ValueError: there would be no semantic or no acoustic codebook.
    """

    def __init__(
        self,
        features: int,
        *,
        codebooks: int = 8,
        size: int = 2048,
        width: int | None = None,
        semantic: int = 1,
        decay: float = 0.99,
        revive: float = 0.05,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 0 < semantic < codebooks:
            raise ValueError(f"{semantic} of {codebooks} codebooks cannot be semantic: leave some")
        self.sizes = (size,) * codebooks
        width = width or features
        self.semantic = Projected(
            features, width, codebooks=semantic, size=size, decay=decay, revive=revive, seed=seed
        )
        self.acoustic = Projected(
            features,
            width,
            codebooks=codebooks - semantic,
            size=size,
            decay=decay,
            revive=revive,
            seed=seed + semantic,
        )

    def forward(self, latent: Latent, keep: Tensor | None = None) -> Quantized:
        """See `Quantizer.forward`; the one loss is `commitment`, a mean over codebooks in use."""
        b, first = len(latent), self.semantic.rvq.codebooks
        keep = latent.new_full((b,), self.codebooks) if keep is None else keep.to(latent)
        with torch.autocast(latent.device.type, enabled=False):
            x = latent.float()
            parts = [
                (part, part.rvq(part.narrow(x), used), used)
                for part, used in (
                    (self.semantic, keep.clamp(max=first)),
                    (self.acoustic, (keep - first).clamp(min=0)),
                )
            ]
            total, commitment, count = torch.zeros_like(x), x.new_zeros(()), x.new_zeros(())
            for part, quantized, used in parts:
                # A part that a recording does not use gets no gradient either.
                total = total + part.wide(quantized.latent * (used > 0)[:, None, None])
                commitment = commitment + quantized.losses["commitment"] * used.sum()
                count = count + used.sum()

        def alone(k: int) -> Tensor:
            """Decode the k-th code alone."""
            part, quantized, _ = parts[k >= first]
            narrow = quantized.stages[k - first * (k >= first)]
            with torch.autocast(latent.device.type, enabled=False):
                return part.wide(narrow.float()).to(latent.dtype)

        return Quantized(
            latent=total.to(latent.dtype),
            codes=torch.cat([quantized.codes for _, quantized, _ in parts], 1),
            losses={"commitment": commitment / count.clamp(min=1)},
            first=alone(0),
            stages=LazySequence(self.codebooks, alone),
        )

    @torch.no_grad()
    def encode(self, latent: Latent, codebooks: int | None = None) -> Codes:
        """See `Quantizer.encode`."""
        codebooks, first = self.check(codebooks), self.semantic.rvq.codebooks
        with torch.autocast(latent.device.type, enabled=False):
            x = latent.float()
            codes = [self.semantic.rvq.encode(self.semantic.narrow(x), min(codebooks, first))]
            if codebooks > first:
                codes += [self.acoustic.rvq.encode(self.acoustic.narrow(x), codebooks - first)]
        return torch.cat(codes, 1)

    def decode(self, codes: Codes) -> Latent:
        """See `Quantizer.decode`; the latent is the sum of both parts."""
        codebooks, first = self.check(codes.shape[1]), self.semantic.rvq.codebooks
        with torch.autocast(codes.device.type, enabled=False):
            latent = self.semantic.wide(self.semantic.rvq.decode(codes[:, :first]))
            if codebooks > first:
                latent = latent + self.acoustic.wide(self.acoustic.rvq.decode(codes[:, first:]))
        return latent
