"""Entries of a codec's codebooks as arrays, for pictures of its tokens."""

from __future__ import annotations

from typing import Any

import numpy as np

from audiotok.tokens.codebooks import NoTableError

CODEBOOKS, ENTRIES = 64, 2**16  # of a codec at most, in all


def entries_of(codec: Any) -> list[np.ndarray] | None:
    """Return the entries `[entries d]` of each codebook (`Codec.codebook_embeddings`).

    Args:
        codec: a codec of any kind.

    Returns:
        None if it has no tables at hand (an exported folder, a codec of two functions or of
        latents), or more than 64 codebooks or 65,536 entries in all.
    """
    tables, sizes = getattr(codec, "codebook_embeddings", None), codec.sizes
    if tables is None or not 0 < len(sizes) <= CODEBOOKS or sum(sizes) > ENTRIES:
        return None
    try:
        return [
            table if isinstance(table, np.ndarray) else table.detach().float().cpu().numpy()
            for table in tables()
        ]
    except NoTableError:
        return None
