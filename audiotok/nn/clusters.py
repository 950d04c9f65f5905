"""The nearest of entries, and k-means."""

from __future__ import annotations

import torch
from torch import Tensor

from audiotok.nn.linear import linear


def nearest(x: Tensor, entries: Tensor, norms: Tensor | None = None) -> Tensor:
    """Return the index of the nearest entry by Euclidean distance.

    |x - e|^2 = |x|^2 - 2 x.e + |e|^2: one matrix product, and |x|^2 cannot change the order. It is
    taken in single precision at least, under autocast too: with the 8 bits of bf16 the nearest is
    often another.

    Args:
        x: points `[n d]`.
        entries: `[size d]`.
        norms: squared lengths of the entries `[size]`; computed if None.

    Returns:
        Indices `[n]`.
    """
    return least(distances(x, entries, norms))


def distances(x: Tensor, entries: Tensor, norms: Tensor | None = None) -> Tensor:
    """Return squared distances `[n size]` of points to entries, less the points' squared lengths.

    Args:
        x: points `[n d]`.
        entries: `[size d]`.
        norms: squared lengths of the entries `[size]`; computed if None.
    """
    full = torch.promote_types(x.dtype, torch.float32)
    with torch.autocast(x.device.type, enabled=False):
        x, entries = x.to(full), entries.to(full)
        norms = entries.square().sum(1) if norms is None else norms
        return linear(-2 * x, entries, norms)


def least(x: Tensor) -> Tensor:
    """Return the index `[n]` of the least value, the first of equals, in each row `[n d]`.

    numpy finds it ten times as fast as torch on a CPU.
    """
    if type(x) is not Tensor or x.device.type != "cpu" or torch.compiler.is_compiling():
        return x.argmin(1)
    return torch.from_numpy(x.detach().numpy().argmin(1))


def kmeans(x: Tensor, size: int, *, rounds: int = 10, seed: int = 0) -> Tensor:
    """Return centres `[size d]` of points `[n d]` by Lloyd's algorithm.

    If there are fewer points than centres, the points are repeated, and noise on each copy lets the
    copies diverge.

    Args:
        x: points `[n d]`.
        size: number of centres.
        rounds: iterations.
        seed: random seed for the initial centres and the noise.
    """
    random = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(x), generator=random)
    centres = x[order.repeat(-(-size // len(x)))[:size].to(x.device)].clone()
    if size > len(x):
        noise = torch.randn(centres.shape, generator=random).to(x)
        centres[len(x) :] += 1e-3 * x.std(correction=0) * noise[len(x) :]
    for _ in range(rounds):
        index = nearest(x, centres)
        count = torch.zeros(size, device=x.device).index_add_(0, index, torch.ones_like(x[:, 0]))
        total = torch.zeros_like(centres).index_add_(0, index, x)
        centres = torch.where(count[:, None] > 0, total / count[:, None].clamp(min=1), centres)
    return centres
