"""Opus (RFC 6716) by opusenc and opusdec, at a constant rate."""

from __future__ import annotations

import tempfile
from pathlib import Path

from audiotok._platform.errors import InputError
from audiotok.audio.audio import Audio
from audiotok.evaluation.baselines.base import Baseline, fit_length, program_version, run

PACKAGE = "opus-tools"


class Opus(Baseline):
    """Opus with hard CBR at a rate of packets in kbps, as `opus:6`.

    The bytes are those of the file, with its Ogg pages. The decoder drops the encoder's delay, as
    the format requires.
    """

    def __init__(self, option: str = "") -> None:
        super().__init__(option)
        try:
            self.nominal_kbps = float(option)
        except ValueError:
            self.nominal_kbps = 0.0
        if not 6 <= self.nominal_kbps <= 256:
            raise InputError(f"opus:{option}: the option is the rate in kbps, 6 to 256: opus:12")
        self.facts = {
            "program": program_version("opusenc", "--version"),
            "settings": f"opusenc --hard-cbr --bitrate {option}; float samples in and out",
            "bytes": "of the .opus file",
            "delay": "none",
        }

    def process(self, audio: Audio, name: str = "") -> tuple[Audio, int | None]:
        """See `Baseline.process`."""
        with tempfile.TemporaryDirectory() as folder:
            wav, opus, back = (Path(folder) / name for name in ("a.wav", "a.opus", "b.wav"))
            Audio(audio.mono().samples.clamp(-1, 1), audio.rate).save(wav, subtype="FLOAT")
            run(PACKAGE, "opusenc", "--quiet", "--hard-cbr", "--bitrate", self.option, wav, opus)
            run(PACKAGE, "opusdec", "--quiet", "--float", "--rate", audio.rate, opus, back)
            return fit_length(Audio.load(back), audio, seconds=0.02), opus.stat().st_size
