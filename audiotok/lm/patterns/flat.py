"""Flat order: frame by frame, and within a frame codebook by codebook, one code per step."""

from __future__ import annotations

from audiotok.lm.patterns.base import Serial


class Flat(Serial):
    """MusicGen's flattening pattern (arXiv:2306.05284), q0 q1 q2 q0 q1 q2; audiocraft's `unroll`.

    Args:
        codebooks: number of codebooks k.
    """

    def __init__(self, codebooks: int) -> None:
        super().__init__((codebooks,))
