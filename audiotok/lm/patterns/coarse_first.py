"""Coarse-first order: the first codebook of all frames, then the others in parallel."""

from __future__ import annotations

from collections.abc import Sequence

from audiotok._platform.errors import InputError
from audiotok.lm.patterns.base import Rows


class CoarseFirst(Rows):
    """MusicGen's coarse-first pattern (arXiv:2306.05284).

    Args:
        codebooks: number of codebooks k.
        delays: delay of each codebook after the first, in steps; None for 0.
        gap: empty steps before the second part. A layout uses one step, so that `end` of the first
            row precedes the other rows.

    Raises:
        ValueError: the number of delays does not fit, or a delay is below 0.
    """

    def __init__(
        self, codebooks: int, *, delays: Sequence[int] | None = None, gap: int = 0
    ) -> None:
        if delays is not None and len(delays) != codebooks - 1:
            raise InputError(f"{len(delays)} delays for {codebooks - 1} codebooks after the first")
        rest = (0,) * (codebooks - 1) if delays is None else delays
        super().__init__((0, *rest), phased=codebooks > 1, gap=gap)
