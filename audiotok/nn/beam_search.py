"""Beam search for the codes of residual codebooks.

The nearest entry of each codebook in turn need not leave the smallest residual in the end. A beam
search keeps several choices for each frame until the last codebook, as Babenko and Lempitsky do
for additive quantization ("Additive quantization for extreme vector compression", CVPR 2014,
section 3.1); the codes decode as any others do.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from audiotok.nn.quantizers.base import Codebook


def beam_search(x: Tensor, codebooks: Sequence[Codebook], *, paths: int, fixed: int = 0) -> Tensor:
    """Return codes that leave a smaller residual than the nearest entries in turn.

    Args:
        x: frames `[n d]`.
        codebooks: in the order in which each codes the residual of those before it.
        paths: choices that are kept for each frame.
        fixed: number of codebooks, from the first, whose codes are the nearest entries.

    Returns:
        Codes `[n k]`, int64.
    """
    n, d = x.shape
    residual, codes = x[:, None], x.new_zeros((n, 1, 0), dtype=torch.int64)
    for i, codebook in enumerate(codebooks):
        m = residual.shape[1]
        rows = residual.reshape(n * m, d)  # sizes are given, as there may be no frame
        distances = codebook.distances(rows)
        tried = 1 if i < fixed else min(paths, distances.shape[1])
        index = _least(distances, tried)
        after = (rows[:, None] - codebook.look_up(index)).view(n, m * tried, d)
        index = index.view(n, m * tried, 1)
        extended = torch.cat([codes.repeat_interleave(tried, 1), index], 2)
        kept = 1 if i < fixed or i == len(codebooks) - 1 else paths
        best = _least(after.square().sum(2), min(kept, m * tried))[..., None]
        residual = after.gather(1, best.expand(-1, -1, d))
        codes = extended.gather(1, best.expand(-1, -1, i + 1))
    return codes[:, 0]


def _least(x: Tensor, count: int) -> Tensor:
    """Return the indices `[n count]` of the least values in each row `[n m]`, the least first."""
    return x.topk(count, 1, largest=False).indices
