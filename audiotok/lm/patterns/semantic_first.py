"""AudioLM's order: the semantic codebooks of the whole recording, then the acoustic ones."""

from __future__ import annotations

from audiotok._platform.errors import InputError
from audiotok.lm.patterns.base import Serial


class SemanticFirst(Serial):
    """Pattern of AudioLM (arXiv:2209.03143): semantic codebooks, then acoustic ones.

    Within each of the two parts codes are ordered frame by frame.

    Args:
        codebooks: number of codebooks k.
        semantic: number of semantic codebooks, from the first.

    Raises:
        ValueError: there is no semantic or no acoustic codebook.
    """

    def __init__(self, codebooks: int, *, semantic: int = 1) -> None:
        if not 1 <= semantic < codebooks:
            raise InputError(f"{semantic} semantic codebooks of {codebooks}: 1 to {codebooks - 1}")
        super().__init__((semantic, codebooks - semantic))
