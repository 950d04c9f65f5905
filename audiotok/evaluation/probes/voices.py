"""Voices told apart: the cosine with one's own, with those of others, and whether it is found."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Voices:
    """Of each of n speakers heard: cosines with enrolled ones, and what they are good for."""

    own: Float[Tensor, " n"]  # with the same speaker
    others: Float[Tensor, " n"]  # with the other speakers, mean
    closer: Float[Tensor, " n"]  # share of the others who are less like it; a half by chance
    found: Float[Tensor, " n"]  # 1 where no other is as like; 1 / n by chance


def compared(heard: Float[Tensor, "n d"], enrolled: Float[Tensor, "n d"]) -> Voices:
    """Hold what was heard of n speakers against what is enrolled of the same, in the same order.

    Cosines of coarse audio with originals are low because it is coarse. Who is found does not
    depend on how alike all are, only on who is most alike.

    Args:
        heard: vectors of speakers (`speaker`), or of anything that may tell them, of any length.
        enrolled: of other recordings of theirs.

    Raises:
        ValueError: fewer than two speakers.
    """
    n = len(heard)
    if n < 2:
        raise ValueError(f"speakers are told from others; here is {n}")
    cosines = F.normalize(heard.double()) @ F.normalize(enrolled.double()).T
    own = cosines.diagonal()
    apart = ~torch.eye(n, dtype=torch.bool)
    others = cosines[apart].view(n, n - 1)
    beaten = (others < own[:, None]).double() + (others == own[:, None]).double() / 2
    return Voices(own, others.mean(1), beaten.mean(1), (beaten == 1).all(1).double())


def counts(codes: Tensor, size: int) -> Float[Tensor, " size"]:
    """How often each code comes, as a vector for `compared`: square roots of shares.

    Their cosine is Bhattacharyya's coefficient, 1 for equal shares and 0 where none is common.

    Args:
        codes: of one codebook, integers below `size`.
        size: of the codebook.
    """
    return torch.bincount(codes.flatten(), minlength=size).double().div(codes.numel()).sqrt()
