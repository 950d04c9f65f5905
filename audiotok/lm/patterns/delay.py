"""Each codebook a step after the one before, so that it can see that one's code of its frame."""

from __future__ import annotations

from collections.abc import Sequence

from audiotok.lm.patterns.base import Rows


class Delay(Rows):
    """MusicGen's delay pattern (arXiv:2306.05284).

    Args:
        codebooks: k.
        delays: steps of each codebook; 0, 1, ... k-1 if None.
    """

    def __init__(self, codebooks: int, *, delays: Sequence[int] | None = None) -> None:
        if delays is not None and len(delays) != codebooks:
            raise ValueError(f"{len(delays)} delays for {codebooks} codebooks")
        super().__init__(range(codebooks) if delays is None else delays)
