"""dMel: log-mel spectra rounded to 16 levels a band; nothing is learnt, and there is no decoder.

    wave at 16 kHz -> STFT, 80 mel bands -> log10 -> 80 codes of 16 levels, 40 or 80 frames/s

A vocoder makes audio of the codes. Codes equal those of the package dmel 1.0.1 without its
beginning and end marks; of a recording whose length is a multiple of the frame the package has one
frame more, centred on the end.

Source: Bai et al. 2024, arXiv:2407.15835; the front end as in Apple's package dmel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from audiotok.codecs.models.base import Codec
from audiotok.codecs.taxonomy import Taxonomy
from audiotok.nn.layers.absent import Absent
from audiotok.nn.layers.centred_mel import CentredMel
from audiotok.nn.quantizers.uniform import Uniform


@dataclass(frozen=True)
class Config:
    """Settings of `Dmel`; the defaults are the published ones at 40 frames/s."""

    sample_rate: int = 16000  # Hz
    frame_size: int = 400  # samples from one frame to the next
    window: int = 800  # samples of the window
    fft: int = 1024  # samples of the transform
    bands: int = 80  # mel bands, each with a codebook
    low: float = 80.0  # Hz
    high: float = 7600.0  # Hz
    levels: int = 16  # entries of a codebook
    quietest: float = -7.0  # decimal logarithm of the magnitude of the lowest level
    loudest: float = 2.0  # and of the highest


class Dmel(Codec):
    """A tokenizer of mel bands without weights."""

    name = "dmel"
    config_type = Config
    presets: ClassVar[Mapping[str, Config]] = {
        "dmel_40hz": Config(),
        "dmel_80hz": Config(frame_size=200),
    }
    taxonomy: ClassVar[Mapping[str, Taxonomy]] = dict.fromkeys(
        presets,
        Taxonomy(
            encoder="mel bands",
            decoder="none",
            quantizer="uniform",
            training="none",
            domain="audio",
            licence="",
        ),
    )
    own_weights = True
    causal = False
    fills_up = False

    @property
    def decoders(self) -> tuple[str, ...]:
        """See `Tokenizer.decoders`."""
        return ("griffin_lim",)

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()
        self.sample_rate = config.sample_rate
        self.frame_size = config.frame_size
        self.encoder = CentredMel(
            rate=config.sample_rate,
            hop=config.frame_size,
            window=config.window,
            fft=config.fft,
            bands=config.bands,
            low=config.low,
            high=config.high,
        )
        self.quantizer = Uniform(
            config.bands, levels=config.levels, low=config.quietest, high=config.loudest
        )
        self.decoder = Absent("decoder", config.frame_size)
