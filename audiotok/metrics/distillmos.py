"""DistillMOS: what listeners would say, without the original (Stahl and Gamper 2025)."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch

from audiotok import _torchaudio
from audiotok.audio import Audio
from audiotok.metrics.base import Metric, Score, heard, needed, version


class Distillmos(Metric):
    """Predicted opinion, 1 to 5, by the `distillmos` package, which carries its weights (MIT).

    Recordings past 7.7 s are heard in pieces of that length, of which it takes the mean.
    """

    better = "higher"
    unit = "MOS"
    aligned = False

    def __init__(self, option: str = "", *, models: Mapping[str, str] | None = None) -> None:
        super().__init__(option, models=models)
        self.protocol = f"{version('distillmos')}, weights v7, 16 kHz, mono mean, no reference"

    @torch.inference_mode()
    def score(self, output: Audio, reference: Audio, text: str | None = None) -> Score:
        """See `Metric.score`; the reference is not heard."""
        wave, network = heard(output, 16000), _network()
        device = next(network.parameters()).device
        return Score(network(wave[None].to(device)).item(), 1)


@cache
def _network() -> Any:
    _torchaudio.load()  # as distillmos imports it
    library = needed("distillmos")
    with contextlib.redirect_stdout(io.StringIO()):  # it prints where its weights are
        network = library.ConvTransformerSQAModel()
    return network.eval().to("cuda" if torch.cuda.is_available() else "cpu")
