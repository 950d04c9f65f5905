"""Codec2 by c2enc and c2dec: a vocoder at 8 kHz, which keeps nothing above 4 kHz."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch

from audiotok._platform.errors import InputError
from audiotok.audio.audio import Audio
from audiotok.evaluation.baselines.base import Baseline, fit_length, program_version, run

PACKAGE = "codec2"
RATE = 8000
MODES = {"3200": 160, "2400": 160, "1600": 320, "1400": 320, "1300": 320, "1200": 320, "700C": 320}
"""Mode in bits per second -> samples in a frame."""


class Codec2(Baseline):
    """Codec2 at a mode such as `codec2:3200`.

    It keeps no phase, so waveforms cannot be compared: its SI-SDR is meaningless. Source: Rowe,
    rowetel.com/codec2.html.
    """

    def __init__(self, option: str = "") -> None:
        super().__init__(option)
        if option not in MODES:
            raise InputError(f"codec2:{option}: the option is a mode: {', '.join(MODES)}")
        self.nominal_kbps = int(option.rstrip("C")) / 1000
        self.facts = {
            "program": f"c2enc {option}, c2dec ({program_version('dpkg-query', '-W', PACKAGE)})",
            "rate": RATE,
            "bytes": "of the .c2 file: a header of 7, whole ones for each frame",
            "delay": f"about {33 if option == '700C' else 22} ms by envelopes, not undone",
        }

    def process(self, audio: Audio, name: str = "") -> tuple[Audio, int | None]:
        """See `Baseline.process`."""
        narrow = audio.mono().resample(RATE).samples[0].clamp(-1, 1).numpy()
        narrow = np.pad(narrow, (0, -len(narrow) % MODES[self.option]))
        with tempfile.TemporaryDirectory() as folder:
            raw, coded, back = (Path(folder) / name for name in ("a.raw", "a.c2", "b.raw"))
            raw.write_bytes((narrow * 32767).round().astype("<i2").tobytes())
            run(PACKAGE, "c2enc", self.option, raw, coded)
            run(PACKAGE, "c2dec", self.option, coded, back)
            samples = np.fromfile(back, "<i2").astype(np.float32) / 32768
            output = Audio(torch.from_numpy(samples)[None], RATE)
            return fit_length(output, audio, seconds=0.1), coded.stat().st_size
