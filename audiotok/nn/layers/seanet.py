"""SEANet: the convolutional encoder and decoder of EnCodec, SpeechTokenizer and Mimi."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from audiotok.nn.layers.base import Layer
from audiotok.nn.layers.chain import Chain
from audiotok.nn.layers.conv import Conv, Pad
from audiotok.nn.layers.group_norm import GroupNorm
from audiotok.nn.layers.lstm import Lstm
from audiotok.nn.layers.residual_unit import ResidualUnit, elu
from audiotok.nn.layers.snake import Snake
from audiotok.nn.layers.transposed_conv import TransposedConv


@dataclass(frozen=True)
class Config:
    """Sizes of a SEANet encoder and decoder; the defaults are those of EnCodec 24 kHz."""

    channels: int = 1  # audio channels
    latent: int = 128  # features of a latent
    width: int = 32  # features at the audio rate, doubled at every stride
    strides: tuple[int, ...] = (2, 4, 5, 8)  # strides of the encoder; the decoder reverses them
    kernel: int = 7  # taps of the first convolution
    last_kernel: int = 7  # taps of the last convolution
    residual_kernel: int = 3  # taps in residual units
    residuals: int = 1  # residual units at each stride
    dilation_base: int = 2  # unit j at a stride has dilation base ** j
    compress: int = 2  # width over hidden width in a residual unit
    shortcut: bool = True  # whether the shortcut of a residual unit is a 1x1 convolution
    lstm: int = 2  # LSTM layers at the frame rate
    bidirectional: bool = False  # whether the LSTM of the encoder is bidirectional
    snake: bool = False  # whether activations are Snake instead of ELU
    group_norm: bool = False  # whether the clip is normalised after every convolution
    causal: bool = True
    pad: Pad = "reflect"


class Seanet(Chain):
    """Chain of convolutions, strided or transposed, with residual units and an LSTM.

    Source: Tagliasacchi et al. 2020, arXiv:2009.02095; with LSTM, Défossez et al. 2022,
    arXiv:2210.13438, section 3.1. Settings of published codecs that differ from the defaults:

        EnCodec 48 kHz     channels=2, group_norm, causal=False
        SpeechTokenizer    latent=1024, width=64, bidirectional, causal=False
        WavTokenizer       latent=512, causal=False
        Mimi               latent=512, width=64, strides=(4, 5, 6, 8), last_kernel=3, lstm=0,
                           shortcut=False, pad="zeros"
    """

    @classmethod
    def encoder(cls, config: Config) -> Seanet:
        """Return an encoder from waves `[b channels t]` to latents `[b latent t/hop]`.

        The hop is the product of the strides. The layers are:

        conv, n x (residual units, activation, strided conv), LSTM, activation, conv
        """
        c, width, build = config, config.width, _Builder(config)
        layers = build.conv(c.channels, width, c.kernel)
        for stride in c.strides:
            layers += build.residuals(width)
            layers += [build.activation(width)]
            layers += build.conv(width, 2 * width, 2 * stride, stride=stride)
            width *= 2
        if c.lstm:
            layers += [Lstm(width, depth=c.lstm, bidirectional=c.bidirectional)]
            width *= 1 + c.bidirectional
        layers += [build.activation(width)]
        return cls(layers + build.conv(width, c.latent, c.last_kernel))

    @classmethod
    def decoder(cls, config: Config) -> Seanet:
        """Return a decoder from latents `[b latent f]` to waves `[b channels f*hop]`.

        The layers are:

        conv, LSTM, n x (activation, transposed conv, residual units), activation, conv
        """
        c, build = config, _Builder(config)
        width = c.width * 2 ** len(c.strides)
        layers = build.conv(c.latent, width, c.kernel)
        if c.lstm:
            layers += [Lstm(width, depth=c.lstm)]
        for stride in reversed(c.strides):
            layers += [build.activation(width)]
            layers += build.transposed(width, width // 2, stride)
            width //= 2
            layers += build.residuals(width)
        layers += [build.activation(width)]
        return cls(layers + build.conv(width, c.channels, c.last_kernel))


class _Builder:
    """Builder of the parts of an encoder or decoder, each followed by its normalisation."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.activation: Callable[[int], Layer] = Snake if config.snake else elu
        self.norm = GroupNorm if config.group_norm else None
        self.ends: dict[str, Any] = {"causal": config.causal, "pad": config.pad}

    def conv(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1) -> list[Layer]:
        """Return a convolution."""
        layer = Conv(inputs, outputs, kernel, stride=stride, **self.ends)
        return [layer, self.norm(outputs)] if self.norm else [layer]

    def transposed(self, inputs: int, outputs: int, stride: int) -> list[Layer]:
        """Return a transposed convolution."""
        norm = self.norm(outputs) if self.norm else None
        causal = self.config.causal
        return [
            TransposedConv(inputs, outputs, 2 * stride, stride=stride, causal=causal, norm=norm)
        ]

    def residuals(self, width: int) -> list[Layer]:
        """Return the residual units at one stride."""
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
