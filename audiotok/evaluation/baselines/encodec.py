"""EnCodec at 24 kHz by the `encodec` package, with the weights that it downloads."""

from __future__ import annotations

import warnings
from functools import cached_property
from types import ModuleType
from typing import Any

import torch

from audiotok._platform.errors import InputError
from audiotok._platform.optional import MissingModelError, optional_import, version
from audiotok.audio import _torchaudio
from audiotok.audio.audio import Audio
from audiotok.evaluation.baselines.base import Baseline, fit_length

RATES = ("1.5", "3", "6", "12", "24")
FILE = "encodec_24khz-d7cc33bc.th"


class Encodec(Baseline):
    """EnCodec at a rate in kbps, without its language model, as `encodec:6` (arXiv:2210.13438).

    The bytes are those of its .ecdc file, with the header.
    """

    def __init__(self, option: str = "") -> None:
        super().__init__(option)
        if option not in RATES:
            raise InputError(f"encodec:{option}: the option is a rate in kbps: {', '.join(RATES)}")
        self.nominal_kbps = float(option)
        self.facts = {
            "program": f"{version('encodec')}, encodec_24khz, no language model",
            "rate": 24000,
            "bytes": "of the .ecdc file",
        }

    @cached_property
    def _package(self) -> ModuleType:
        _torchaudio.load()  # the package imports torchaudio
        return optional_import(
            "encodec.compress", "encodec"
        )  # the package exports a function of this name

    @cached_property
    def _network(self) -> Any:
        try:
            with warnings.catch_warnings():  # the package uses torch's deprecated weight_norm
                warnings.simplefilter("ignore", FutureWarning)
                network = self._package.EncodecModel.encodec_model_24khz()
        except (OSError, RuntimeError) as error:  # no connection, or an incomplete file
            folder = f"{torch.hub.get_dir()}/checkpoints"
            why = " ".join(str(error).split())[:100]
            raise MissingModelError(
                f"encodec's weights cannot be fetched ({why}): put {FILE} into {folder}"
            ) from None
        network.set_target_bandwidth(float(self.option))
        return network.eval()

    def process(self, audio: Audio, name: str = "") -> tuple[Audio, int | None]:
        """See `Baseline.process`."""
        wave = audio.mono().resample(24000).samples
        network = self._network
        with torch.no_grad():
            size = len(self._package.compress(network, wave, use_lm=False))
            output = network.decode(network.encode(wave[None]))[0]
        return fit_length(Audio(output, 24000), audio, seconds=0.02), size
