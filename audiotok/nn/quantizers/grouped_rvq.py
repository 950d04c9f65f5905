"""Groups of features, each with residual codebooks of its own.

    latent = [ group 1: 32 features | group 2: 96 features ]
               1 x 1024               7 x 1024

HiFi-Codec (Yang et al. 2023, arXiv:2305.02765, section 3.2) has two equal groups (`grvq` has codes
in its order). With a first group of one codebook that only its own losses train, that codebook is a
semantic one beside the acoustic ones, and not the root of their residual, as Mimi's is (Défossez et
al. 2024, arXiv:2410.00037, section 3.3.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from audiotok._platform.config import NONE_OR_MORE
from audiotok._platform.errors import InputError
from audiotok.nn.quantizers.base import Count, SideBySide
from audiotok.nn.quantizers.rvq import Rvq


class GroupedRvq(SideBySide):
    """Residual codebooks for groups of neighbouring features; codes go group after group.

    A prefix of the codes decodes: features of groups that are missing are zero.

    Args:
        features: width d of the latent.
        groups: features and codebooks of each group, and entries in each of these codebooks if they
            are not `size`; the features add up to d.
        size: entries in each codebook of the other groups.
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
        groups: Sequence[Sequence[Count]] = ((48, 4), (48, 4)),
        size: Count = 1024,
        shielded: Annotated[int, NONE_OR_MORE] = 0,
        decay: float = 0.99,
        revive: float = 0.05,
        seed: int = 0,
    ) -> None:
        sized = [(*group, size)[:3] for group in groups if len(group) in (2, 3)]
        widths = [width for width, *_ in sized]
        least = min((min(group) for group in sized), default=0)
        if len(sized) < len(groups) or sum(widths) != features or least < 1:
            raise InputError(
                f"groups {[list(group) for group in groups]}: features, codebooks, and entries if "
                f"not {size}, of each; the features add up to {features}"
            )
        counts = [codebooks for _, codebooks, _ in sized]
        parts = list[tuple[int, Rvq]]()
        for i, (width, count, entries) in enumerate(sized):
            options = {"seed": seed + sum(counts[:i]), "decay": decay, "revive": revive}
            parts.append((width, Rvq(width, codebooks=count, size=entries, **options)))
        super().__init__(parts)
        self.shielded = shielded
