"""Multi-resolution discriminator: magnitudes in windows of several sizes (UnivNet, Vocos)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from audiotok._platform.shapes import Wave
from audiotok.nn.spectrogram import magnitude, padded, stft
from audiotok.training.discriminators.base import (
    Discriminator,
    DiscriminatorOutput,
    SubDiscriminator,
    conv2d,
    filled,
)


@dataclass(frozen=True)
class Config:
    """Sizes of `Mrd`."""

    channels: int = 1  # channels of audio
    windows: tuple[int, ...] = (1024, 2048, 512)  # samples; the hop is a quarter
    width: int = 64  # features of every layer


class Mrd(Discriminator):
    """Multi-resolution discriminator: convolutions over magnitudes in windows of several sizes.

    600,198 parameters (Jang et al. 2021, arXiv:2106.07889; Siuzdak 2024, arXiv:2306.00814, section
    3.4, and its code up to version 0.0.4, whose windows are rectangular). WavTokenizer's 600,966
    are these and 768 of an embedding of the bitrate (see `Mpd`); since version 0.1.0 Vocos uses
    DAC's, `multi_band`, instead. A wave shorter than a window is padded with zeros.
    """

    config_type = Config

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()
        self.judges = nn.ModuleList(_build(config) for _ in config.windows)

    def discriminate(self, wave: Wave) -> list[DiscriminatorOutput]:
        """Return the outputs for each window, scores `[b frames bins]`."""
        outputs = []
        for size, sub_discriminator in zip(self.config.windows, self.judges, strict=True):
            score, features = sub_discriminator(_magnitudes(filled(wave, size), size))
            outputs.append(DiscriminatorOutput(score[:, 0], features))
        return outputs


def _magnitudes(wave: Wave, size: int) -> Tensor:
    """Return magnitudes `[b c frames bins]`, the first frame centred on the first sample."""
    window = torch.ones(size, device=wave.device)
    bins = stft(padded(wave.flatten(0, 1), size // 2, "reflect"), window, size // 4)
    return magnitude(bins).unflatten(0, wave.shape[:2])


def _build(config: Config) -> SubDiscriminator:
    inputs, layers = config.channels, []
    for kernel, stride in (
        ((5, 7), (2, 2)),
        ((3, 5), (1, 2)),
        ((3, 5), (2, 2)),
        ((3, 3), (1, 2)),
        ((3, 3), (2, 2)),
    ):
        layers.append(conv2d(inputs, config.width, kernel, stride=stride))
        inputs = config.width
    return SubDiscriminator(layers, conv2d(inputs, 1, (3, 3)), slope=0.1)
