"""Run-length coding of equal frames: each run as one frame and its duration."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

Codes = Int[np.ndarray, "k f"]
Lengths = Int[np.ndarray, " r"]
Kept = Int[np.ndarray, "k r"]


def collapse(codes: Codes, longest: int | None = None) -> tuple[Kept, Lengths]:
    """Return each run of equal frames as one frame, and the length of each run.

    Args:
        codes: codes `[k f]`.
        longest: maximum length of a run, in frames; longer runs are split. None splits no run.

    Returns:
        The frames `[k r]`, and the length of each run `[r]` in frames.
    """
    frames = codes.shape[1]
    if not frames:
        return codes, np.zeros(0, np.int64)
    begins = np.flatnonzero(np.r_[True, (codes[:, 1:] != codes[:, :-1]).any(0)])
    lengths = np.diff(np.r_[begins, frames])
    if longest is None:
        return codes[:, begins], lengths
    parts = -(-lengths // longest)
    split = np.full(parts.sum(), longest)
    split[np.cumsum(parts) - 1] = lengths - (parts - 1) * longest
    return codes[:, np.repeat(begins, parts)], split


def expand(kept: Kept, lengths: Lengths) -> Codes:
    """Return the codes `[k f]` that `collapse` was given."""
    return np.repeat(kept, lengths, 1)
