"""VALL-E's split: the first codebook code by code, every other one at one stroke, in order."""

from __future__ import annotations

import numpy as np

from audiotok.lm.patterns.base import Serial


class ArNar(Serial):
    """VALL-E and USLM (arXiv:2301.02111, arXiv:2308.16692).

    The autoregressive model predicts `codes[0]`, one at a time; the non-autoregressive one
    `codes[q]` of all frames from `codes[:q]`, for each q. As a sequence: codebook after codebook.
    """

    def __init__(self, codebooks: int) -> None:
        super().__init__((1,) * codebooks)

    def passes(self, frames: int) -> np.ndarray:
        """See `Pattern.passes`: one a frame, then one a codebook."""
        made = np.arange(self.codebooks)[:, None] + np.full(frames, frames - 1)
        made[0] = np.arange(frames)
        return made
