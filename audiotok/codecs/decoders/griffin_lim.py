"""Griffin-Lim for dMel: the phase that fits the magnitudes best, found in some iterations.

Nothing is learnt. It stands in for the vocoder that dMel is published with, and sounds metallic
where that would not.

Source: Griffin & Lim 1984 (doi 10.1109/TASSP.1984.1164317), with the momentum of Perraudin et al.
2013 (doi 10.1109/WASPAA.2013.6701851), as torchaudio implements it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from audiotok.codecs.decoders.base import Decoder, Source
from audiotok.codecs.models.dmel import Config as Dmel
from audiotok.nn.griffin_lim import MOMENTUM, ROUNDS, MelInversion
from audiotok.nn.quantizers.uniform import Uniform


@dataclass(frozen=True)
class Config:
    """Options of `GriffinLim`."""

    frame_size: int = 400  # samples per frame of the dMel
    iterations: int = ROUNDS
    momentum: float = MOMENTUM


class GriffinLim(Decoder):
    """Decoder of dMel without weights; it needs the whole recording."""

    name = "griffin_lim"
    config_type = Config
    presets: ClassVar[Mapping[str, Config]] = {
        "griffin_lim_40hz": Config(),
        "griffin_lim_80hz": Config(frame_size=200),
    }
    own_weights = True
    causal = False
    fills_up = False

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()
        mel = Dmel(frame_size=config.frame_size)
        self.sample_rate = mel.sample_rate
        self.frame_size = mel.frame_size
        name = f"dmel_{mel.sample_rate // mel.frame_size}hz"
        sizes = (mel.levels,) * mel.bands
        self.source = Source(name, mel.sample_rate, mel.frame_size, sizes)
        self.encoder = self.no_encoder()
        self.quantizer = Uniform(mel.bands, levels=mel.levels, low=mel.quietest, high=mel.loudest)
        self.decoder = MelInversion(
            rate=mel.sample_rate,
            hop=mel.frame_size,
            window=mel.window,
            fft=mel.fft,
            bands=mel.bands,
            low=mel.low,
            high=mel.high,
            quietest=mel.quietest,
            loudest=mel.loudest,
            iterations=config.iterations,
            momentum=config.momentum,
        )
