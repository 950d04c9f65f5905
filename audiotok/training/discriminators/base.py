"""What every discriminator promises: a waveform in, one opinion of each of its judges out.

All are weight-normalised convolutions with leaky rectifiers between them. Each judge sees the
waveform from another side (a period, a window, a rate) and gives scores, high for a recording,
and the features they came from, which feature matching compares.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from audiotok._platform.shapes import Wave
from audiotok.nn.spectrogram import stft


@dataclass(frozen=True)
class Opinion:
    """What one judge says of a batch.

    Attributes:
        score: `[b ...]`, one for each place that it looked at.
        features: `[b ...]` each, what its layers saw, first layer first, without the score.
    """

    score: Tensor
    features: list[Tensor]

    def float(self) -> Opinion:
        """Return the same in single precision, which is what losses are computed in."""
        return Opinion(self.score.float(), [feature.float() for feature in self.features])


class Discriminator(nn.Module):
    """Judges of a waveform `[b c t]`; a subclass writes `judge` and fills `judges`.

    The published discriminators are made for mono. With more `channels` the first layer of every
    judge sees them all.

    Attributes:
        config_type: the frozen dataclass of its sizes; without arguments, the published ones.
        config: the sizes it has. Its `channels` is how many the waveform must have.
        shortest: samples that a waveform must have at least.
    """

    config_type: type[Any]
    config: Any
    shortest: int = 1

    def forward(self, wave: Wave) -> list[Opinion]:
        """One opinion of each judge. Recordings of a batch do not see each other.

        Raises:
            ValueError: another number of channels, or fewer samples than `shortest`.
        """
        c, t = wave.shape[1:]
        if c != self.config.channels:
            raise ValueError(
                f"{type(self).__name__} is built for {self.config.channels} channels, not {c}"
            )
        if t < self.shortest:
            raise ValueError(
                f"{type(self).__name__} needs {self.shortest} samples at least, not {t}:"
                " use longer crops"
            )
        return self.judge(wave)

    def judge(self, wave: Wave) -> list[Opinion]:
        """What `forward` gives, of a waveform that fits."""
        raise NotImplementedError


class Stack(nn.Module):
    """Layers with a leaky rectifier after each."""

    def __init__(self, layers: Iterable[nn.Module], *, slope: float) -> None:
        super().__init__()
        self.layers, self.slope = nn.ModuleList(layers), slope

    def forward(self, x: Tensor) -> list[Tensor]:
        """The features of every layer."""
        features = []
        for layer in self.layers:
            x = layer(x)
            if x.ndim == 4:
                # Convolutions of few channels run two to four times as fast with channels last
                # in memory; a first layer of one channel does not say so by itself.
                x = x.contiguous(memory_format=torch.channels_last)
            x = F.leaky_relu(x, self.slope)
            features.append(x)
        return features


class Judge(nn.Module):
    """A stack of layers and one more that scores its last features."""

    def __init__(self, layers: Iterable[nn.Module], score: nn.Module, *, slope: float) -> None:
        super().__init__()
        self.stack, self.score = Stack(layers, slope=slope), score

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Score and features."""
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
    """A weight-normalised convolution over frames (dilated) and bins, padded by half its span."""
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
    """Real parts of all channels, then imaginary ones, `[b 2c frames bins]`; no padding.

    In memory the channels of mono come last: convolutions of few channels run two to four times
    as fast so.
    """
    bins = torch.view_as_real(stft(wave.flatten(0, 1), window, hop))
    return bins.unflatten(0, wave.shape[:2]).permute(0, 4, 1, 2, 3).flatten(1, 2)


def filled(wave: Wave, size: int) -> Tensor:
    """At least `size` samples: a shorter wave with zeros after it."""
    return F.pad(wave, (0, max(0, size - wave.shape[2])))


def levelled(wave: Wave) -> Wave:
    """Each recording without its mean, and with a peak of 0.8: what DAC's discriminators see."""
    wave = wave - wave.mean(2, keepdim=True)
    # Silence stays silent, and its slope bounded.
    return 0.8 * wave / wave.abs().amax((1, 2), keepdim=True).clamp(min=1e-3)
