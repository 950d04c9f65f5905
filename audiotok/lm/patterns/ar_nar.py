"""VALL-E's order: the first codebook autoregressively, then each other one in a single pass."""

from __future__ import annotations

import numpy as np

from audiotok.lm.patterns.base import Serial


class ArNar(Serial):
    """Pattern of VALL-E and USLM (arXiv:2301.02111, arXiv:2308.16692).

    An autoregressive model predicts `codes[0]`, one code at a time; a non-autoregressive one
    predicts `codes[q]` of all frames from `codes[:q]`, for each q. As a sequence of ids, one
    codebook follows another.

    Args:
        codebooks: number of codebooks k.
    """

    def __init__(self, codebooks: int) -> None:
        super().__init__((1,) * codebooks)

    def passes(self, frames: int) -> np.ndarray:
        """Return the passes: one for each frame, then one for each further codebook."""
        passes = np.arange(self.codebooks)[:, None] + np.full(frames, frames - 1)
        passes[0] = np.arange(frames)
        return passes
