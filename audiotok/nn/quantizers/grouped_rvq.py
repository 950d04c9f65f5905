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
        groups: Sequence[Sequence[Count]] = ((48, 4), (48, 4)),
        size: Count = 1024,
        shielded: Annotated[int, NONE_OR_MORE] = 0,
        decay: float = 0.99,
        revive: float = 0.05,
        seed: int = 0,
    ) -> None:
        widths = [width for width, _ in groups]
        if not groups or sum(widths) != features or min(min(group) for group in groups) < 1:
            raise InputError(
                f"groups {[list(group) for group in groups]}: pairs of features and codebooks, "
                f"whose features add up to {features}"
            )
        counts = [codebooks for _, codebooks in groups]
        options = {"size": size, "decay": decay, "revive": revive}
        super().__init__(
            [
                (width, Rvq(width, codebooks=count, seed=seed + sum(counts[:i]), **options))
                for i, (width, count) in enumerate(groups)
            ]
        )
        self.shielded = shielded
