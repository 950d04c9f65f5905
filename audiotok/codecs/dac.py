"""Descript Audio Codec: general audio at 44.1 kHz (also 24 and 16), 9 codebooks, 8 kbps.

    wave -> strided convolutions -> latent 1024 -> 9 x 1024 -> transposed convolutions -> wave

No recurrence and no attention: a frame depends on a bounded stretch of samples on both sides.

Source: Kumar et al. 2023, arXiv:2306.06546; package descript-audio-codec 1.0.0. At an odd stride
that decoder cuts one output too many and a recording comes back short (16 and 24 kHz: stride 5, 8
samples). Here it cuts one less at the end, and the recording is whole; its last 1.5 frames differ
from the package's, which hears the missing output as silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

from torch import nn
from torch.nn import functional as F

from audiotok.codecs.base import Codec
from audiotok.layers.base import Chain, Layer, Pointwise, State
from audiotok.layers.conv import Conv, TransposedConv
from audiotok.layers.residual_unit import ResidualUnit
from audiotok.layers.snake import Snake
from audiotok.network import convolutions
from audiotok.quantizers.rvq import Factorised, Rvq
from audiotok.shapes import Latent, Wave


@dataclass(frozen=True)
class Config:
    """Sizes of `Dac`; the defaults are DAC 44.1 kHz."""

    sample_rate: int = 44100  # Hz
    encoder: int = 64  # width of the encoder at the audio rate; doubles at every stride
    decoder: int = 1536  # width of the decoder at the frame rate; halves at every stride
    strides: Sequence[int] = (2, 4, 8, 8)  # of the encoder; the frame is their product
    latent: int = 1024  # width of what is quantized
    codebooks: int = 9
    size: int = 1024  # entries in a codebook
    code_width: int = 8  # features that a codebook is searched in

    def __post_init__(self) -> None:
        object.__setattr__(self, "strides", tuple(self.strides))  # TOML and JSON give a list


def _units(width: int) -> list[Layer]:
    return [
        ResidualUnit(width, kernel=7, dilation=dilation, activation=Snake, causal=False)
        for dilation in (1, 3, 9)
    ]


def _encoder(config: Config) -> Chain:
    """conv, n x (residual units, Snake, strided conv), Snake, conv."""
    width = config.encoder
    layers: list[Layer] = [Conv(1, width, 7, causal=False)]
    for stride in config.strides:
        layers += [*_units(width), Snake(width)]
        layers += [Conv(width, 2 * width, 2 * stride, stride=stride, causal=False)]
        width *= 2
    return Chain([*layers, Snake(width), Conv(width, config.latent, 3, causal=False)])


def _decoder(config: Config) -> Chain:
    """conv, n x (Snake, transposed conv, residual units), Snake, conv, tanh."""
    width = config.decoder
    layers: list[Layer] = [Conv(config.latent, width, 7, causal=False)]
    for stride in reversed(config.strides):
        trim = -(-stride // 2), stride // 2
        up = TransposedConv(width, width // 2, 2 * stride, stride=stride, causal=False, trim=trim)
        layers += [Snake(width), up, *_units(width // 2)]
        width //= 2
    return Chain([*layers, Snake(width), Conv(width, 1, 7, causal=False), Pointwise(nn.Tanh())])


class Dac(Codec):
    """Convolutions with Snake from the waveform and back; codebooks searched in 8 features."""

    name = "dac"
    config_type = Config
    presets: ClassVar[Mapping[str, Config]] = {
        "dac_44khz": Config(),
        "dac_44khz_16kbps": Config(latent=128, codebooks=18),
        "dac_24khz": Config(sample_rate=24000, strides=(2, 4, 5, 8), codebooks=32),
        "dac_16khz": Config(sample_rate=16000, strides=(2, 4, 5, 8), codebooks=12),
    }
    causal = False
    fills_up = False

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()
        self.sample_rate, self.frame_size = config.sample_rate, prod(config.strides)
        self.encoder = _encoder(config)
        self.quantizer = Rvq(
            config.latent,
            codebooks=config.codebooks,
            size=config.size,
            kind="factorised",
            width=config.code_width,
        )
        self.decoder = _decoder(config)

    def finish_latent(self, wave: Wave, state: State) -> Latent:
        """See `Network.finish_latent`; the last frame is filled up with silence."""
        return self.encoder(F.pad(wave, (0, -wave.shape[2] % self.frame_size)))

    def weight_normed(self) -> Iterable[nn.Module]:
        """All convolutions, and the projections of the codebooks."""
        stages = [m for m in self.quantizer.modules() if isinstance(m, Factorised)]
        return [*convolutions(self), *(p for s in stages for p in (s.down, s.up))]
