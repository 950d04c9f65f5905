"""DistillMOS: what listeners would say, without the original (Stahl and Gamper 2025)."""

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
from audiotok.evaluation.metrics.base import Listener, needed, version


class Distillmos(Listener):
    """Predicted opinion, 1 to 5, by the `distillmos` package, which carries its weights (MIT).

    Recordings past 7.7 s are heard in pieces of that length, of which it takes the mean.
    """

    def __init__(self, option: str = "", *, models: Mapping[str, str] | None = None) -> None:
        super().__init__(option, models=models)
        self.protocol = f"{version('distillmos')}, weights v7, 16 kHz, mono mean, no reference"

    def opinions(self, waves: Float[Tensor, "b t"]) -> Float[Tensor, " b"]:
        """See `Listener.opinions`."""
        network = _network()
        return network(waves.to(next(network.parameters()).device)).flatten()


@cache
def _network() -> Any:
    _torchaudio.load()  # as distillmos imports it
    library = needed("distillmos")
    with contextlib.redirect_stdout(io.StringIO()):  # it prints where its weights are
        network = library.ConvTransformerSQAModel()
    return network.eval().to("cuda" if torch.cuda.is_available() else "cpu")
