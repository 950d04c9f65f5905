"""Interface of discriminators: they map a waveform to one output of each sub-discriminator.

All are weight-normalised convolutions with leaky rectifiers between them. Each sub-discriminator
gets the waveform in another form (a period, a window, a rate) and returns scores, high for a
recording, and the features they were computed from, which feature matching compares.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from audiotok._platform.errors import InputError
from audiotok._platform.shapes import Wave
from audiotok.nn.spectrogram import stft


@dataclass(frozen=True)
class DiscriminatorOutput:
    """Output of one sub-discriminator on a batch.

    Attributes:
        score: `[b ...]`, one for each position of the last layer.
        features: outputs `[b ...]` of the other layers, first layer first.
    """

    score: Tensor
    features: list[Tensor]

    def float(self) -> DiscriminatorOutput:
        """Return the same in float32, in which losses are computed."""
        return DiscriminatorOutput(
            self.score.float(), [feature.float() for feature in self.features]
        )


class Discriminator(nn.Module):
    """Discriminator of waveforms `[b c t]`; a subclass writes `discriminate` and fills `judges`.

    The published discriminators are for mono. With more `channels` the first layer of every
    sub-discriminator takes them all.

    Attributes:
        config_type: frozen dataclass of the sizes, whose defaults are the published ones.
        config: the sizes; `channels` is the number of channels of the waveform.
        shortest: least number of samples of a waveform.
        judges: the sub-discriminators (the name is part of the keys of saved states).
    """

    config_type: type[Any]
    config: Any
    shortest: int = 1

    def forward(self, wave: Wave) -> list[DiscriminatorOutput]:
        """Return the output of each sub-discriminator; recordings of a batch are independent.

        Args:
            wave: waveforms `[b c t]`.

        Raises:
            ValueError: the number of channels differs, or there are fewer samples than `shortest`.
        """
        c, t = wave.shape[1:]
        if c != self.config.channels:
            raise InputError(
                f"{type(self).__name__} is built for {self.config.channels} channels, not {c}"
            )
        if t < self.shortest:
            raise InputError(
                f"{type(self).__name__} needs {self.shortest} samples at least, not {t}:"
                " use longer crops"
            )
        return self.discriminate(wave)

    def discriminate(self, wave: Wave) -> list[DiscriminatorOutput]:
        """Return the output of each sub-discriminator on a waveform that `forward` has checked."""
        raise NotImplementedError


class Stack(nn.Module):
    """Layers with a leaky rectifier after each.

    Args:
        layers: the layers, in order.
        slope: slope of the rectifier below zero.
    """

    def __init__(self, layers: Iterable[nn.Module], *, slope: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.slope = slope

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the features of every layer."""
        features = []
        for layer in self.layers:
            x = layer(x)
            if x.ndim == 4:
                # Convolutions of few channels run two to four times as fast with channels last
                # in memory; after a first layer of one channel torch does not choose that itself.
                x = x.contiguous(memory_format=torch.channels_last)
            x = F.leaky_relu(x, self.slope)
            features.append(x)
        return features


class SubDiscriminator(nn.Module):
    """Sub-discriminator: a stack of layers and one more that scores the last features.

    Args:
        layers: layers of the stack.
        score: layer that computes the score.
        slope: slope of the rectifiers below zero.
    """

    def __init__(self, layers: Iterable[nn.Module], score: nn.Module, *, slope: float) -> None:
        super().__init__()
        self.stack = Stack(layers, slope=slope)
        self.score = score

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the score and the features of every layer."""
        features = self.stack(x)
        return self.score(features[-1]), features


def conv2d(
    inputs: int,
    outputs: int,
    kernel: tuple[int, int],
    *,
    stride: tuple[int, int] = (1, 1),
    dilation: int = 1,
    normed: bool = True,
) -> nn.Module:
    """Build a convolution over frames and bins, padded by half its span.

    Args:
        inputs: input channels.
        outputs: output channels.
        kernel: frames and bins of the kernel.
        stride: strides over frames and bins.
        dilation: dilation over frames.
        normed: whether its weights are normalised.
    """
    layer = nn.Conv2d(
        inputs,
        outputs,
        kernel,
        stride=stride,
        dilation=(dilation, 1),
        padding=((kernel[0] - 1) * dilation // 2, kernel[1] // 2),
    )
    return weight_norm(layer) if normed else layer


def spectrogram(wave: Wave, window: Tensor, hop: int) -> Tensor:
    """Return complex bins without padding, real parts of all channels before imaginary parts.

    In memory the channels of mono come last, with which convolutions of few channels run two to
    four times as fast.

    Args:
        wave: waveforms `[b c t]`.
        window: window `[size]`.
        hop: hop in samples.

    Returns:
        `[b 2c frames bins]`.
    """
    bins = torch.view_as_real(stft(wave.flatten(0, 1), window, hop))
    return bins.unflatten(0, wave.shape[:2]).permute(0, 4, 1, 2, 3).flatten(1, 2)


def filled(wave: Wave, size: int) -> Tensor:
    """Return the wave, with zeros appended where it has fewer than `size` samples."""
    return F.pad(wave, (0, max(0, size - wave.shape[2])))


def levelled(wave: Wave) -> Wave:
    """Return each recording without its mean and with a peak of 0.8, as DAC's discriminators do."""
    wave = wave - wave.mean(2, keepdim=True)
    # The lower bound keeps silence silent and the gradient finite.
    return 0.8 * wave / wave.abs().amax((1, 2), keepdim=True).clamp(min=1e-3)
