"""The recording itself, the upper bound for every other row."""

from __future__ import annotations

from audiotok._platform.errors import InputError
from audiotok.audio.audio import Audio
from audiotok.evaluation.baselines.base import Baseline


class Original(Baseline):
    """Original recordings, to show the scores of metrics without any coding."""

    def __init__(self, option: str = "") -> None:
        super().__init__(option)
        if option:
            raise InputError(f"original:{option}: it has no options")

    def process(self, audio: Audio, name: str = "") -> tuple[Audio, int | None]:
        """See `Baseline.process`."""
        return audio, None
