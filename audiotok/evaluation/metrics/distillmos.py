"""DistillMOS: mean opinion score predicted without a reference (Stahl and Gamper 2025)."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from audiotok.audio import _torchaudio
from audiotok.evaluation.metrics.base import OpinionMetric, optional_import, version


class Distillmos(OpinionMetric):
    """Predicted opinion, 1 to 5, by the `distillmos` package, which carries its weights (MIT).

    Recordings longer than 7.7 s are evaluated in segments of that length, and the package averages
    them.
    """

    def __init__(self, option: str = "", *, models: Mapping[str, str] | None = None) -> None:
        super().__init__(option, models=models)
        self.protocol = f"{version('distillmos')}, weights v7, 16 kHz, mono mean, no reference"

    def opinions(self, waves: Float[Tensor, "b t"]) -> Float[Tensor, " b"]:
        """See `OpinionMetric.opinions`."""
        network = _network()
        return network(waves.to(next(network.parameters()).device)).flatten()


@cache
def _network() -> Any:
    _torchaudio.load()  # distillmos imports torchaudio
    library = optional_import("distillmos")
    with contextlib.redirect_stdout(io.StringIO()):  # the package prints the path of its weights
        network = library.ConvTransformerSQAModel()
    return network.eval().to("cuda" if torch.cuda.is_available() else "cpu")
