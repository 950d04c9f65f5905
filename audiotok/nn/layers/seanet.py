"""SEANet: the convolutional encoder and decoder of EnCodec, SpeechTokenizer and Mimi."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from audiotok.nn.layers.base import Chain, Layer
from audiotok.nn.layers.conv import Conv, Pad
from audiotok.nn.layers.group_norm import GroupNorm
from audiotok.nn.layers.lstm import Lstm
from audiotok.nn.layers.residual_unit import ResidualUnit, elu
from audiotok.nn.layers.snake import Snake
from audiotok.nn.layers.transposed_conv import TransposedConv


@dataclass(frozen=True)
class Config:
    """Sizes of an encoder and its decoder; the defaults are EnCodec 24 kHz."""

    channels: int = 1  # of audio
    latent: int = 128  # width of what the encoder gives and the decoder takes
    width: int = 32  # at the audio rate; doubles at every stride
    strides: tuple[int, ...] = (2, 4, 5, 8)  # of the encoder; the decoder's are the reverse
    kernel: int = 7  # of the first convolution
    last_kernel: int = 7  # of the last one
    residual_kernel: int = 3  # of the residual units
    residuals: int = 1  # residual units at each stride
    dilation_base: int = 2  # unit j of a stride has dilation base ** j
    compress: int = 2  # width over hidden width in a residual unit
    shortcut: bool = True  # whether x passes a 1x1 convolution beside a residual unit
    lstm: int = 2  # layers of it at the frame rate
    bidirectional: bool = False  # the encoder's LSTM, not the decoder's
    snake: bool = False  # activations are Snake, not ELU
    group_norm: bool = False  # over the clip, after every convolution
    causal: bool = True
    pad: Pad = "reflect"


class Seanet(Chain):
    """A chain of convolutions, strided or transposed, with residual units and an LSTM.

    Source: Tagliasacchi et al. 2020, arXiv:2009.02095; with LSTM, Défossez et al. 2022,
    arXiv:2210.13438, section 3.1. What the published ones set other than the defaults:

        EnCodec 48 kHz     channels=2, group_norm, causal=False
        SpeechTokenizer    latent=1024, width=64, bidirectional, causal=False
        WavTokenizer       latent=512, causal=False
        Mimi               latent=512, width=64, strides=(4, 5, 6, 8), last_kernel=3, lstm=0,
                           shortcut=False, pad="zeros"
    """

    @classmethod
    def encoder(cls, config: Config) -> Seanet:
        """Waveform `[b channels t]` to latent `[b latent t/hop]`, hop the product of strides.

        conv, n x (residual units, activation, strided conv), LSTM, activation, conv
        """
        c, width, make = config, config.width, _Maker(config)
        layers = make.conv(c.channels, width, c.kernel)
        for stride in c.strides:
            layers += make.residuals(width)
            layers += [make.activation(width)]
            layers += make.conv(width, 2 * width, 2 * stride, stride=stride)
            width *= 2
        if c.lstm:
            layers += [Lstm(width, depth=c.lstm, bidirectional=c.bidirectional)]
            width *= 1 + c.bidirectional
        layers += [make.activation(width)]
        return cls(layers + make.conv(width, c.latent, c.last_kernel))

    @classmethod
    def decoder(cls, config: Config) -> Seanet:
        """Latent `[b latent f]` to waveform `[b channels f*hop]`.

        conv, LSTM, n x (activation, transposed conv, residual units), activation, conv
        """
        c, make = config, _Maker(config)
        width = c.width * 2 ** len(c.strides)
        layers = make.conv(c.latent, width, c.kernel)
        if c.lstm:
            layers += [Lstm(width, depth=c.lstm)]
        for stride in reversed(c.strides):
            layers += [make.activation(width)]
            layers += make.transposed(width, width // 2, stride)
            width //= 2
            layers += make.residuals(width)
        layers += [make.activation(width)]
        return cls(layers + make.conv(width, c.channels, c.last_kernel))


class _Maker:
    """Makes the parts of an encoder or decoder, each followed by its normalisation."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.activation: Callable[[int], Layer] = Snake if config.snake else elu
        self.norm = GroupNorm if config.group_norm else None
        self.ends: dict[str, Any] = {"causal": config.causal, "pad": config.pad}

    def conv(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1) -> list[Layer]:
        layer = Conv(inputs, outputs, kernel, stride=stride, **self.ends)
        return [layer, self.norm(outputs)] if self.norm else [layer]

    def transposed(self, inputs: int, outputs: int, stride: int) -> list[Layer]:
        norm = self.norm(outputs) if self.norm else None
        causal = self.config.causal
        return [
            TransposedConv(inputs, outputs, 2 * stride, stride=stride, causal=causal, norm=norm)
        ]

    def residuals(self, width: int) -> list[Layer]:
        unit = partial(
            ResidualUnit,
            width,
            hidden=width // self.config.compress,
            kernel=self.config.residual_kernel,
            activation=self.activation,
            norm=self.norm,
            shortcut=self.config.shortcut,
            **self.ends,
        )
        c = self.config
        return [unit(dilation=c.dilation_base**j) for j in range(c.residuals)]
