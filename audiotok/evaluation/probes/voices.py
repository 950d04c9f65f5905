"""Speaker comparison: cosines with the same speaker and with others, and identification."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from audiotok._platform.errors import InputError


@dataclass(frozen=True)
class Voices:
    """Comparison of n speakers with enrolled ones, one value a speaker."""

    own: Float[Tensor, " n"]  # cosine with the same speaker
    others: Float[Tensor, " n"]  # mean cosine with the other speakers
    closer: Float[Tensor, " n"]  # share of the others who are less similar; 1 / 2 by chance
    identified: Float[Tensor, " n"]  # 1 where no other is as similar; 1 / n by chance


def compare_speakers(tested: Float[Tensor, "n d"], enrolled: Float[Tensor, "n d"]) -> Voices:
    """Compare test vectors of n speakers with enrolled vectors of the same, in the same order.

    Cosines of coarse audio with originals are low because it is coarse. Identification does not
    depend on their level, only on who is most similar.

    Args:
        tested: vectors of the test recordings `[n d]` (`speaker`), or other vectors of speakers.
        enrolled: vectors of other recordings of theirs `[n d]`.

    Raises:
        ValueError: there are fewer than two speakers.
    """
    n = len(tested)
    if n < 2:
        raise InputError(f"speakers are told from others; here is {n}")
    cosines = F.normalize(tested.double()) @ F.normalize(enrolled.double()).T
    own = cosines.diagonal()
    apart = ~torch.eye(n, dtype=torch.bool)
    others = cosines[apart].view(n, n - 1)
    beaten = (others < own[:, None]).double() + (others == own[:, None]).double() / 2
    return Voices(own, others.mean(1), beaten.mean(1), (beaten == 1).all(1).double())


def code_histogram(codes: Tensor, size: int) -> Float[Tensor, " size"]:
    """Return the histogram of codes as a vector for `compare_speakers`: square roots of shares.

    The cosine of two is Bhattacharyya's coefficient, 1 for equal shares and 0 where no code is
    common.

    Args:
        codes: codes of one codebook, integers below `size`.
        size: entries in the codebook.
    """
    return torch.bincount(codes.flatten(), minlength=size).double().div(codes.numel()).sqrt()
