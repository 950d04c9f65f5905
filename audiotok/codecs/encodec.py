"""EnCodec: general audio at 24 kHz, 75 frames/s, up to 32 codebooks, 1.5 to 24 kbps, causal.

    wave -> SEANet with LSTM -> latent 128 -> 32 x 1024 -> SEANet with LSTM -> wave

Source: Défossez et al. 2022, arXiv:2210.13438; package encodec 0.1.1, whose codes and samples these
are, also at the ends of a recording, which it mirrors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

from torch import nn

from audiotok.codecs.base import Codec
from audiotok.layers.seanet import Config as Sizes
from audiotok.layers.seanet import Seanet
from audiotok.network import convolutions
from audiotok.quantizers.rvq import Rvq


@dataclass(frozen=True)
class Config:
    """Sizes of `Encodec`; the defaults are EnCodec 24 kHz."""

    sample_rate: int = 24000  # Hz
    channels: int = 1  # of audio
    width: int = 32  # of the network at the audio rate; doubles at every stride
    strides: Sequence[int] = (2, 4, 5, 8)  # of the encoder; the frame is their product
    kernel: int = 7  # of the first and the last convolution
    lstm: int = 2  # layers of it
    latent: int = 128  # width of what is quantized
    codebooks: int = 32
    size: int = 1024  # entries in a codebook
    causal: bool = True
    group_norm: bool = False  # over the clip, in the place of weight normalisation (48 kHz)

    def __post_init__(self) -> None:
        object.__setattr__(self, "strides", tuple(self.strides))  # TOML and JSON give a list


class Encodec(Codec):
    """Convolutions from the waveform and back, with LSTMs at the frame rate.

    The first frames are mirrored before the start, so a stream begins when `first_frames` of them
    are there.

    EnCodec 48 kHz has the network `Config(sample_rate=48000, channels=2, codebooks=16,
    causal=False, group_norm=True)`; it runs on segments of one second, each scaled to loudness 1.
    """

    name = "encodec"
    config_type = Config
    presets: ClassVar[Mapping[str, Config]] = {"encodec_24khz": Config()}
    fills_up = False

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()
        self.sample_rate, self.channels = config.sample_rate, config.channels
        self.frame_size, self.causal = prod(config.strides), config.causal
        # The last convolution of the encoder and the first of the decoder run on frames.
        self.first_frames = config.kernel
        sizes = Sizes(
            channels=config.channels,
            latent=config.latent,
            width=config.width,
            strides=tuple(config.strides),
            kernel=config.kernel,
            last_kernel=config.kernel,
            lstm=config.lstm,
            group_norm=config.group_norm,
            causal=config.causal,
        )
        self.encoder = Seanet.encoder(sizes)
        self.quantizer = Rvq(config.latent, codebooks=config.codebooks, size=config.size)
        self.decoder = Seanet.decoder(sizes)

    def weight_normed(self) -> Iterable[nn.Module]:
        """All convolutions."""
        return () if self.config.group_norm else convolutions(self)
