"""Groups of features, each with residual codebooks of its own.

    latent = [ group 1: 32 features | group 2: 96 features ]
               1 x 1024               7 x 1024

HiFi-Codec (Yang et al. 2023, arXiv:2305.02765, section 3.2) has two equal groups. With a first
group of one codebook that only its own losses train, that codebook is a semantic one beside the
acoustic ones, and not the root of their residual, as Mimi's is (Défossez et al. 2024,
arXiv:2410.00037, section 3.3.3).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiotok._platform.shapes import Codes, Latent
from audiotok.nn.quantizers.base import LazySequence, Quantized, Quantizer
from audiotok.nn.quantizers.rvq import Rvq


class GroupedRvq(Quantizer):
    """Residual codebooks for groups of neighbouring features; codes go group after group.

    A prefix of the codes decodes: features of groups that are missing are zero.

    Args:
        features: width d of the latent.
        groups: features and codebooks of each group; the features add up to d.
        size: entries in each codebook.
        shielded: number of groups, from the first, that learn nothing from what the decoder makes
            of them, but from the commitment and from what is distilled into them only.
        decay, revive: of a codebook (`rvq.Euclidean`).
        seed: of the k-means that initialises them.

    Raises:
        ValueError: groups that do not add up to the features, or none.
    """

    def __init__(
        self,
        features: int,
        *,
        groups: Sequence[Sequence[int]] = ((48, 4), (48, 4)),
        size: int = 1024,
        shielded: int = 0,
        decay: float = 0.99,
        revive: float = 0.05,
        seed: int = 0,
    ) -> None:
        super().__init__()
        widths = [width for width, _ in groups]
        if not groups or sum(widths) != features or min(min(group) for group in groups) < 1:
            raise ValueError(
                f"groups {[list(group) for group in groups]}: pairs of features and codebooks, "
                f"whose features add up to {features}"
            )
        self.widths = widths
        self.shielded = shielded
        self.parts = nn.ModuleList()
        for width, codebooks in groups:
            first = sum(len(part.sizes) for part in self.rvqs())
            self.parts.append(
                Rvq(
                    width,
                    codebooks=codebooks,
                    size=size,
                    decay=decay,
                    revive=revive,
                    seed=seed + first,
                )
            )
        self.sizes = (size,) * sum(codebooks for _, codebooks in groups)

    def rvqs(self) -> list[Rvq]:
        """Return the residual quantizer of each group."""
        return [part for part in self.parts if isinstance(part, Rvq)]

    def forward(self, latent: Latent, keep: Tensor | None = None) -> Quantized:
        """See `Quantizer.forward`; the one loss is `commitment`, a mean over codebooks in use."""
        keep = latent.new_full((len(latent),), self.codebooks) if keep is None else keep.to(latent)
        first, results, decoded = 0, [], []
        commitment, count = latent.new_zeros(()).float(), latent.new_zeros(()).float()
        for i, (part, x) in enumerate(zip(self.rvqs(), latent.split(self.widths, 1), strict=True)):
            used = (keep - first).clamp(0, part.codebooks)
            result = part(x, used)
            results.append(result)
            # A group that is not in use decodes to nothing, and has no gradient.
            output = result.latent.detach() if i < self.shielded else result.latent
            decoded.append(output * (used > 0)[:, None, None])
            commitment = commitment + result.losses["commitment"] * used.sum()
            count = count + used.sum()
            first += part.codebooks

        def alone(k: int) -> Tensor:
            before = 0
            for i, (part, result) in enumerate(zip(self.rvqs(), results, strict=True)):
                if k < before + part.codebooks:
                    left = sum(self.widths[:i])
                    right = sum(self.widths[i + 1 :])
                    return F.pad(result.stages[k - before], (0, 0, left, right))
                before += part.codebooks
            raise IndexError(k)

        return Quantized(
            latent=torch.cat(decoded, 1),
            codes=torch.cat([result.codes for result in results], 1),
            losses={"commitment": commitment / count.clamp(min=1)},
            first=alone(0),
            stages=LazySequence(self.codebooks, alone),
        )

    @torch.no_grad()
    def encode(self, latent: Latent, codebooks: int | None = None) -> Codes:
        """Return codes of the first `codebooks` codebooks (all if None)."""
        left, codes = self.check(codebooks), []
        for part, x in zip(self.rvqs(), latent.split(self.widths, 1), strict=True):
            if left > 0:
                codes.append(part.encode(x, min(left, part.codebooks)))
            left -= part.codebooks
        return torch.cat(codes, 1)

    def decode(self, codes: Codes) -> Latent:
        """Return the entries side by side; any prefix of the codebooks will do."""
        self.check(codes.shape[1])
        decoded, first = [], 0
        for part, width in zip(self.rvqs(), self.widths, strict=True):
            rows = codes[:, first : first + part.codebooks]
            if rows.shape[1]:
                decoded.append(part.decode(rows))
            else:
                decoded.append(decoded[0].new_zeros(len(codes), width, codes.shape[2]))
            first += part.codebooks
        return torch.cat(decoded, 1)
