"""Frame by frame, and in a frame codebook by codebook: k codes a frame, one at a time."""

from __future__ import annotations

from audiotok.lm.patterns.base import Serial


class Flat(Serial):
    """q0 q1 q2 q0 q1 q2 ...: MusicGen's flattening (arXiv:2306.05284), audiocraft's `unroll`."""

    def __init__(self, codebooks: int) -> None:
        super().__init__((codebooks,))
