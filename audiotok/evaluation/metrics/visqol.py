"""ViSQOL 3: predicted similarity to the original (Chinen et al. 2020, arXiv:2004.09584)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from audiotok._platform.errors import InputError
from audiotok.audio.audio import Audio
from audiotok.evaluation.metrics.base import (
    Metric,
    Score,
    check_not_silent,
    optional_import,
    pair,
    version,
)

# Rate in Hz, and the mapping from similarity to opinion.
KINDS = {
    "": (16000, "speech mode, lattice mapping (the default of Google's program)"),
    "polynomial": (16000, "speech mode, exponential mapping scaled to 5"),
    "audio": (48000, "audio mode, support vector mapping"),
}


class Visqol(Metric):
    """Predicted opinion, 1 to 5, by the `visqol-python` package (Apache-2.0).

    Variants: speech at 16 kHz (the default), `polynomial` the same by an older mapping, and `audio`
    for music at 48 kHz.
    """

    better = "higher"
    unit = "MOS"
    options = ("polynomial", "audio")

    def __init__(self, option: str = "", *, models: Mapping[str, str] | None = None) -> None:
        super().__init__(option, models=models)
        rate, kind = KINDS[option]
        self.protocol = f"{version('visqol-python')}, {kind}, {rate // 1000} kHz, mono mean"

    def score(self, output: Audio, reference: Audio, text: str | None = None) -> Score:
        """See `Metric.score`; about 1 s is needed."""
        rate, _ = KINDS[self.option]
        estimate, target = (wave.double().numpy() for wave in pair(output, reference, rate=rate))
        check_not_silent("ViSQOL", output=output, reference=reference)
        program = _program(self.option)
        try:
            value = program.measure_from_arrays(target, estimate, rate).moslqo
        except (ValueError, RuntimeError, IndexError) as error:
            raise InputError(f"ViSQOL: {' '.join(str(error).split())}") from None
        return Score(float(value), 1)


@cache
def _program(option: str) -> Any:
    program = optional_import("visqol", "visqol-python").VisqolApi()
    if not option:
        # Without this library the package falls back to the other mapping, 1 or 2 points higher.
        optional_import("ai_edge_litert", "ai-edge-litert")
    program.create(mode="audio" if option == "audio" else "speech", use_lattice_model=not option)
    return program
