"""The recording as it is: what every other row falls short of."""

from __future__ import annotations

from audiotok.audio.audio import Audio
from audiotok.evaluation.baselines.base import Anchor


class Original(Anchor):
    """`original` scores what metrics say of the recordings themselves."""

    def __init__(self, option: str = "") -> None:
        super().__init__(option)
        if option:
            raise ValueError(f"original:{option}: it has no options")

    def through(self, audio: Audio, name: str = "") -> tuple[Audio, int | None]:
        """See `Anchor.through`."""
        return audio, None
