"""Split residual vector quantization: a semantic codebook beside acoustic ones, as Mimi has it.

    latent -> 1x1 -> semantic   1 x 2048  -> 1x1 -\\
    latent -> 1x1 -> acoustic  31 x 2048  -> 1x1 --+-> latent

The acoustic codebooks code the latent itself, not what the semantic one left over: distilled from a
teacher of speech, that one is free of the task to be near the latent.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audiotok._platform.shapes import Codes, Features, Latent, Output
from audiotok.nn.quantizers.base import Lazy, Quantized, Quantizer
from audiotok.nn.quantizers.rvq import Rvq


class Projected(nn.Module):
    """Residual codebooks in a space of their own, between two linear maps without bias.

    Args:
        features: width d of the latent.
        width: of the codebooks.
        rvq: options of the codebooks.
    """

    def __init__(self, features: int, width: int, **rvq: int | float) -> None:
        super().__init__()
        self.down = nn.Linear(features, width, bias=False)
        self.rvq = Rvq(width, **rvq)  # pyright: ignore[reportArgumentType]
        self.up = nn.Linear(width, features, bias=False)

    def narrow(self, latent: Features) -> Output:
        """What the codebooks search."""
        return self.down(latent.transpose(1, 2)).transpose(1, 2)

    def wide(self, latent: Features) -> Output:
        """What their entries stand for."""
        return self.up(latent.transpose(1, 2)).transpose(1, 2)


class SplitRvq(Quantizer):
    """The first `semantic` codebooks and the acoustic others, each part residual in itself.

    Args:
        features: width d of the latent.
        codebooks: in all.
        size: entries in each.
        width: of the codebooks; as `features` if None.
        semantic: how many of them are semantic.
        decay, revive: of a codebook (`rvq.Euclidean`).
        seed: of the k-means that initialises them.

    Source: Défossez et al. 2024, arXiv:2410.00037, section 3.3.3; package moshi 0.2.13.

    Raises:
        ValueError: no semantic or no acoustic codebook.
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
            total, commitment, stages = torch.zeros_like(x), x.new_zeros(()), x.new_zeros(())
            for part, made, used in parts:
                # No gradient either to a part that a recording does not use.
                total = total + part.wide(made.latent * (used > 0)[:, None, None])
                commitment = commitment + made.losses["commitment"] * used.sum()
                stages = stages + used.sum()

        def stage(k: int) -> Tensor:
            part, made, _ = parts[k >= first]
            with torch.autocast(latent.device.type, enabled=False):
                return part.wide(made.stages[k - first * (k >= first)].float()).to(latent.dtype)

        return Quantized(
            latent=total.to(latent.dtype),
            codes=torch.cat([made.codes for _, made, _ in parts], 1),
            losses={"commitment": commitment / stages.clamp(min=1)},
            first=stage(0),
            stages=Lazy(self.codebooks, stage),
        )

    @torch.no_grad()
    def encode(self, latent: Latent, codebooks: int | None = None) -> Codes:
        """Codes of the first `codebooks` codebooks (all if None)."""
        codebooks, first = self.check(codebooks), self.semantic.rvq.codebooks
        with torch.autocast(latent.device.type, enabled=False):
            x = latent.float()
            codes = [self.semantic.rvq.encode(self.semantic.narrow(x), min(codebooks, first))]
            if codebooks > first:
                codes += [self.acoustic.rvq.encode(self.acoustic.narrow(x), codebooks - first)]
        return torch.cat(codes, 1)

    def decode(self, codes: Codes) -> Latent:
        """Sum of both parts; the codes may be those of any prefix of the codebooks."""
        codebooks, first = self.check(codes.shape[1]), self.semantic.rvq.codebooks
        with torch.autocast(codes.device.type, enabled=False):
            latent = self.semantic.wide(self.semantic.rvq.decode(codes[:, :first]))
            if codebooks > first:
                latent = latent + self.acoustic.wide(self.acoustic.rvq.decode(codes[:, first:]))
        return latent
