"""Delay order: each codebook one step after the one before, whose code it can depend on."""

from __future__ import annotations

from collections.abc import Sequence

from audiotok._platform.errors import InputError
from audiotok.lm.patterns.base import Rows


class Delay(Rows):
    """MusicGen's delay pattern (arXiv:2306.05284).

    Args:
        codebooks: number of codebooks k.
        delays: delay of each codebook in steps; None for 0, 1, ... k - 1.

    Raises:
        ValueError: the number of delays does not fit, or a delay is below 0.
    """

    def __init__(self, codebooks: int, *, delays: Sequence[int] | None = None) -> None:
        if delays is not None and len(delays) != codebooks:
            raise InputError(f"{len(delays)} delays for {codebooks} codebooks")
        super().__init__(range(codebooks) if delays is None else delays)
