"""Multi-band discriminator: complex spectra in windows of several sizes, band by band (DAC)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiotok._platform.shapes import Wave
from audiotok.nn.spectrogram import hann
from audiotok.training.discriminators.base import (
    Discriminator,
    DiscriminatorOutput,
    Stack,
    conv2d,
    filled,
    levelled,
    spectrogram,
)


@dataclass(frozen=True)
class Config:
    """Sizes of `MultiBand`."""

    channels: int = 1  # channels of audio
    windows: tuple[int, ...] = (2048, 1024, 512)  # samples; the hop is a quarter
    # Edges of the bands; 1 is half the sample rate.
    edges: tuple[float, ...] = (
        0.0,
        0.1,
        0.25,
        0.5,
        0.75,
        1.0,
    )
    width: int = 32  # features of every layer


class MultiBand(Discriminator):
    """Multi-band discriminator: convolutions over complex bins, with weights for each band.

    High bands, quiet in most audio, are not outweighed by low ones. 1,413,990 parameters as
    published (Kumar et al. 2023, arXiv:2306.06546, section 3.3). DAC trains it beside `mpd` at
    `level = true`: 42,519,760 together, as in WavTokenizer. A wave shorter than a window is filled
    up with zeros.
    """

    config_type = Config

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()
        self.judges = nn.ModuleList(_Bands(config) for _ in config.windows)

    def discriminate(self, wave: Wave) -> list[DiscriminatorOutput]:
        """Return the outputs for each window, scores `[b frames bins]`; features band by band."""
        wave = levelled(wave)
        return [
            sub_discriminator(_spectrogram(filled(wave, size), size))
            for size, sub_discriminator in zip(self.config.windows, self.judges, strict=True)
        ]


class _Bands(nn.Module):
    """Sub-discriminator of one window."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.edges = config.edges
        width = config.width
        self.bands = nn.ModuleList(
            Stack(
                [
                    conv2d(2 * config.channels, width, (3, 9)),
                    *(conv2d(width, width, (3, 9), stride=(1, 2)) for _ in range(3)),
                    conv2d(width, width, (3, 3)),
                ],
                slope=0.1,
            )
            for _ in config.edges[1:]
        )
        self.score = conv2d(width, 1, (3, 3))

    def forward(self, spectrum: Tensor) -> DiscriminatorOutput:
        edges = [int(edge * spectrum.shape[3]) for edge in self.edges]
        features, last = [], []
        for (low, high), band in zip(pairwise(edges), self.bands, strict=True):
            features += band(spectrum[..., low:high])
            last.append(features[-1])
        return DiscriminatorOutput(self.score(torch.cat(last, 3))[:, 0], features)


def _spectrogram(wave: Wave, size: int) -> Tensor:
    """Return bins `[b 2c frames bins]`, one frame for each begun hop, reflected at both ends."""
    hop = size // 4
    width = (size - hop) // 2
    wave = F.pad(wave, (width, width + -wave.shape[2] % hop), "reflect")
    return spectrogram(wave, hann(size, wave.device), hop)
