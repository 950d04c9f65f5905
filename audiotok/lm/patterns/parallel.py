"""Parallel order: all codes of a frame in one step."""

from __future__ import annotations

from audiotok.lm.patterns.base import Rows


class Parallel(Rows):
    """MusicGen's parallel pattern (arXiv:2306.05284).

    Args:
        codebooks: number of codebooks k.
    """

    def __init__(self, codebooks: int) -> None:
        super().__init__((0,) * codebooks)
