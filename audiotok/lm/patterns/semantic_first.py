"""What is said, of the whole recording, then how it sounds: AudioLM's two stages."""

from __future__ import annotations

from audiotok.lm.patterns.base import Serial


class SemanticFirst(Serial):
    """AudioLM (arXiv:2209.03143): semantic codebooks frame by frame, then acoustic ones.

    Args:
        codebooks: k.
        semantic: how many of them come first.
    """

    def __init__(self, codebooks: int, *, semantic: int = 1) -> None:
        if not 1 <= semantic < codebooks:
            raise ValueError(f"{semantic} semantic codebooks of {codebooks}: 1 to {codebooks - 1}")
        super().__init__((semantic, codebooks - semantic))
