"""Sums of the entries of several codebooks in place of their codes, and codes of such sums.

    codes c_1 ... c_k --cumulative--> sum of e_d(c_d), d from `after` + 1 to k
    sum --requantize, given c_1 ... c_after--> codes

ResGen predicts the sum of a frame's masked codebooks and quantizes it afterwards, so that the steps
of generation do not grow with the number of codebooks. Quantizing a sum again need not give back
the codes that it is of: each was the nearest entry to what was left of the latent, and is not
always the nearest to what is left of the sum. `mismatch` measures how often. The model is
`audiotok.lm.masked`.

Source: ResGen (arXiv:2412.10208), without code of its authors.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from audiotok._platform.errors import InputError
from audiotok._platform.shapes import Codes, Latent
from audiotok.nn.quantizers.base import Quantizer

EXACT = "donot_use_mm_for_euclid_dist"  # distances that are not of products, which round


def cumulative(quantizer: Quantizer, codes: Codes, after: int = 0) -> Latent:
    """Return what codebooks add to a latent together, `[b d f]`.

    Args:
        quantizer: a quantizer whose codes decode to sums of entries.
        codes: `[b k f]`, of the first k codebooks.
        after: number of codebooks, from the first, that are left out.

    Raises:
        InputError: none is left.
    """
    if not 0 <= after < codes.shape[1]:
        raise InputError(f"after={after} of {codes.shape[1]} codebooks: at least one is summed up")
    whole = quantizer.decode(codes)
    return whole - quantizer.decode(codes[:, :after]) if after else whole


def requantize(
    quantizer: Quantizer, summed: Latent, before: Tensor | None = None, codebooks: int | None = None
) -> Codes:
    """Return the codes `[b k f]` of sums, after codes that are known.

    Args:
        quantizer: a residual quantizer, in evaluation mode.
        summed: sums `[b d f]` of the entries of the codebooks after the known ones.
        before: known codes `[b n f]` of the first n codebooks; they are kept. None for none.
        codebooks: number k of codebooks of the result; all if None.

    Raises:
        InputError: there are not so many codebooks, or all are known already.
        NoTableError: codes of the quantizer do not decode to sums.
    """
    k = quantizer.check(codebooks)
    if before is None:
        return quantizer.encode(summed, k)
    known = before.shape[1]
    if known >= k:
        raise InputError(f"{known} codebooks are known, and {k} are asked for: more are needed")
    tables = [quantizer.table(i).detach() for i in range(known, k)]
    codes = greedy(tables, summed.transpose(1, 2))
    return torch.cat([before, codes.transpose(1, 2)], 1)


def greedy(tables: Sequence[Tensor], summed: Float[Tensor, "*n d"]) -> Int[Tensor, "*n k"]:
    """Return the codes `[... k]` of sums: of each table in turn the nearest entry to what is left.

    Args:
        tables: entries `[size d]` of each codebook, in their order.
        summed: sums `[... d]`.
    """
    left, codes = summed, []
    for table in tables:
        codes.append(torch.cdist(left, table, compute_mode=EXACT).argmin(-1))
        left = left - table[codes[-1]]
    return torch.stack(codes, -1)


@torch.no_grad()
def mismatch(quantizer: Quantizer, codes: Codes, after: int = 0) -> Tensor:
    """Return the share of codes `[k - after]` of each codebook that their sum does not give back.

    Args:
        quantizer: a residual quantizer, in evaluation mode.
        codes: codes `[b k f]` of it.
        after: number of codebooks, from the first, that are known.
    """
    summed = cumulative(quantizer, codes, after)
    again = requantize(quantizer, summed, codes[:, :after] if after else None, codes.shape[1])
    return (again != codes)[:, after:].float().mean((0, 2))
