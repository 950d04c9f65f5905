"""Embeddings of tokens, in the place of a quantizer: for decoders that stand alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audiotok._platform.shapes import Codes, Latent
from audiotok.nn.quantizers.base import Quantizer


class Tables(Quantizer):
    """Embeddings of tokens, summed over codebooks; it only decodes.

    A codebook that is left out adds a vector of its own.

    Args:
        sizes: number of entries in each codebook.
        features: width of the embeddings.
        ordered: whether entries are levels in order.
    """

    offsets: Tensor

    def __init__(self, sizes: tuple[int, ...], features: int, *, ordered: bool = False) -> None:
        super().__init__()
        self.sizes = sizes
        count = len(sizes)
        self.register_buffer("offsets", torch.tensor([sum(sizes[:i]) for i in range(count)]))
        table = torch.randn(sum(sizes), features)
        if ordered:
            levels = [torch.linspace(-1.7, 1.7, size)[:, None] for size in sizes]
            lines = [level * torch.randn(features) for level in levels]
            table = torch.cat(lines) + 0.1 * table
        self.entries = nn.Parameter(table / count**0.5)
        self.absent = nn.Parameter(torch.zeros(count, features))

    def decode(self, codes: Codes) -> Latent:
        """See `Quantizer.decode`."""
        b, k, f = codes.shape
        rows = (codes + self.offsets[:k, None]).transpose(1, 2).reshape(b * f, k)
        total = nn.functional.embedding_bag(rows, self.entries, mode="sum")
        if k < self.codebooks:
            total = total + self.absent[k:].sum(0)
        return total.view(b, f, self.absent.shape[1]).transpose(1, 2)

    def dropped(self, codes: Codes, keep: Tensor) -> Latent:
        """Return the sums `[b d f]` of all codebooks' codes, of which recording i has `keep[i]`."""
        b, k, f = codes.shape
        used = (torch.arange(k, device=codes.device) < keep[:, None]).to(self.entries)  # [b k]
        rows = (codes + self.offsets[:, None]).transpose(1, 2).reshape(b * f, k)
        weights = used[:, None].expand(b, f, k).reshape(b * f, k)
        total = nn.functional.embedding_bag(
            rows, self.entries, mode="sum", per_sample_weights=weights
        )
        missing = (1 - used) @ self.absent
        return (total.view(b, f, self.absent.shape[1]) + missing[:, None]).transpose(1, 2)
