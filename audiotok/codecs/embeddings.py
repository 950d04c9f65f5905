"""Entries of a codec's codebooks, as the decoder sees them."""

from __future__ import annotations

from typing import Any

import numpy as np

CODEBOOKS, ENTRIES = 64, 2**16  # of a codec at most, in all


def codebook_embeddings(codec: Any) -> list[np.ndarray] | None:
    """Return the entries of each codebook, `[entries d]`, each up to an offset common to all.

    They are what the quantizer decodes each code to, after codes 0 of the codebooks before it.

    Args:
        codec: a codec of any kind.

    Returns:
        None if its quantizer is not at hand (an exported codec), or there are more than 64
        codebooks or 65,536 entries in all.
    """
    quantizer = getattr(codec, "quantizer", None)
    sizes = codec.sizes
    if quantizer is None or len(sizes) > CODEBOOKS or sum(sizes) > ENTRIES:
        return None
    import torch

    tables = []
    with torch.no_grad():
        for k, size in enumerate(sizes):
            codes = torch.zeros(size, k + 1, 1, dtype=torch.long, device=codec.device)
            codes[:, k, 0] = torch.arange(size)
            tables.append(quantizer.decode(codes)[:, :, 0].float().cpu().numpy())
    return tables
