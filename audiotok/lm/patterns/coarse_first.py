"""The first codebook of all frames, then the others side by side."""

from __future__ import annotations

from collections.abc import Sequence

from audiotok.lm.patterns.base import Rows


class CoarseFirst(Rows):
    """MusicGen's coarse-first pattern (arXiv:2306.05284).

    Args:
        codebooks: k.
        delays: steps of each codebook after the first; 0 if None.
        gap: steps kept free before the second part. A layout keeps one, in which the first row
            says that it has ended before the others begin.
    """

    def __init__(
        self, codebooks: int, *, delays: Sequence[int] | None = None, gap: int = 0
    ) -> None:
        if delays is not None and len(delays) != codebooks - 1:
            raise ValueError(f"{len(delays)} delays for {codebooks - 1} codebooks after the first")
        rest = (0,) * (codebooks - 1) if delays is None else delays
        super().__init__((0, *rest), phased=codebooks > 1, gap=gap)
