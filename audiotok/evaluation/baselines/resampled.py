"""The recording resampled to a lower rate and back: the upper bound for a codec of that rate."""

from __future__ import annotations

from audiotok._platform.errors import InputError
from audiotok.audio.audio import Audio
from audiotok.evaluation.baselines.base import Baseline, fit_length


class Resampled(Baseline):
    """Recording resampled down and back up by `Audio.resample`, as `resampled:8000` (Hz)."""

    def __init__(self, option: str = "") -> None:
        super().__init__(option)
        if not option.isdecimal() or int(option) < 1:
            raise InputError(f"resampled:{option}: the option is a rate in Hz: resampled:8000")
        self.rate = int(option)
        self.facts = {"rate": self.rate}

    def process(self, audio: Audio, name: str = "") -> tuple[Audio, int | None]:
        """See `Baseline.process`."""
        return fit_length(audio.mono().resample(self.rate), audio, seconds=2 / self.rate), None
