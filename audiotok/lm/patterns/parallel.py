"""All codes of a frame at once: as many steps as frames."""

from __future__ import annotations

from audiotok.lm.patterns.base import Rows


class Parallel(Rows):
    """MusicGen's parallel pattern (arXiv:2306.05284)."""

    def __init__(self, codebooks: int) -> None:
        super().__init__((0,) * codebooks)
