"""Split residual vector quantization of Mimi: a semantic codebook parallel to acoustic codebooks.

    latent -> 1x1 -> semantic   1 x 2048  -> 1x1 -\\
    latent -> 1x1 -> acoustic  31 x 2048  -> 1x1 --+-> latent

The acoustic codebooks code the latent itself and not the residual of the semantic one, which is
distilled from a speech teacher and so need not be near the latent.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from audiotok._platform.errors import InputError
from audiotok._platform.shapes import Features, Latent, Output
from audiotok.nn.quantizers.base import Count, PartedQuantizer, Quantizer
from audiotok.nn.quantizers.rvq import Rvq


class Projected(nn.Module):
    """Residual quantizer in a projection, between two linear maps without bias.

    Args:
        features: width d of the latent.
        width: width of the projection.
        part: class of the quantizer.
        rvq: options of `Rvq`.
    """

    def __init__(
        self, features: int, width: int, *, part: type[Rvq] = Rvq, **rvq: int | float
    ) -> None:
        super().__init__()
        self.down = nn.Linear(features, width, bias=False)
        self.rvq = part(width, **rvq)  # pyright: ignore[reportArgumentType]
        self.up = nn.Linear(width, features, bias=False)

    def narrow(self, latent: Features) -> Output:
        """Project latents `[b d f]` to the width of the codebooks."""
        return self.down(latent.transpose(1, 2)).transpose(1, 2)

    def wide(self, latent: Features) -> Output:
        """Project sums of entries back to latents `[b d f]`."""
        return self.up(latent.transpose(1, 2)).transpose(1, 2)


class SplitRvq(PartedQuantizer):
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
        part: class of the quantizer of each part.

    Source: Défossez et al. 2024, arXiv:2410.00037, section 3.3.3; package moshi 0.2.13.

    Raises:
        ValueError: there would be no semantic or no acoustic codebook.
    """

    def __init__(
        self,
        features: int,
        *,
        codebooks: Count = 8,
        size: Count = 2048,
        width: Count | None = None,
        semantic: Count = 1,
        decay: float = 0.99,
        revive: float = 0.05,
        seed: int = 0,
        part: type[Rvq] = Rvq,
    ) -> None:
        super().__init__()
        if not 0 < semantic < codebooks:
            raise InputError(f"{semantic} of {codebooks} codebooks cannot be semantic: leave some")
        self.sizes = (size,) * codebooks
        width = width or features
        options = {"size": size, "decay": decay, "revive": revive}
        self.semantic = Projected(
            features, width, part=part, codebooks=semantic, seed=seed, **options
        )
        self.acoustic = Projected(
            features,
            width,
            part=part,
            codebooks=codebooks - semantic,
            seed=seed + semantic,
            **options,
        )

    def quantizers(self) -> list[Quantizer]:
        """See `PartedQuantizer.quantizers`."""
        return [self.semantic.rvq, self.acoustic.rvq]

    def views(self, latent: Latent) -> Sequence[Tensor]:
        """See `PartedQuantizer.views`; a projection for each part."""
        return self.semantic.narrow(latent), self.acoustic.narrow(latent)

    def combined(self, outputs: Sequence[Tensor | None]) -> Latent:
        """See `PartedQuantizer.combined`; the sum of both parts, projected back."""
        parts = zip((self.semantic, self.acoustic), outputs, strict=True)
        wide = [part.wide(output) for part, output in parts if output is not None]
        return wide[0] if len(wide) == 1 else wide[0] + wide[1]
