"""Noise: the recording with noise added, or noise alone as the lowest row."""

from __future__ import annotations

import math

import torch

from audiotok._platform.errors import InputError
from audiotok.audio.audio import Audio
from audiotok.evaluation.baselines.base import Baseline
from audiotok.evaluation.cache import fingerprint


class Noise(Baseline):
    """White noise 10 dB below the recording for `noise:10`; for `noise` noise of its level, alone.

    The noise is seeded by the samples, so a recording always has the same.
    """

    def __init__(self, option: str = "") -> None:
        super().__init__(option)
        try:
            self.decibels = float(option) if option else None
            if self.decibels is not None and not math.isfinite(self.decibels):
                raise InputError
        except ValueError:
            raise InputError(f"noise:{option}: the option is an SNR in dB: noise:10") from None
        self.facts = {"noise": "white, Gaussian" + (f", SNR {option} dB" if option else ", alone")}

    def process(self, audio: Audio, name: str = "") -> tuple[Audio, int | None]:
        """See `Baseline.process`; the noise of a silent recording is silent too."""
        audio = audio.mono()
        seed = int.from_bytes(fingerprint(audio.samples, audio.rate)[:7], "big")
        noise = torch.randn(audio.samples.shape, generator=torch.Generator().manual_seed(seed))
        if len(audio):  # scaled by the level of this draw, not by the expected one
            noise = noise * (audio.samples.norm() / noise.norm().clamp(min=1e-20))
        if self.decibels is None:
            return Audio(noise, audio.rate), None
        return Audio(audio.samples + noise * 10 ** (-self.decibels / 20), audio.rate), None
