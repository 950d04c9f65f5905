"""Multi-scale STFT discriminator: complex spectra in windows of several sizes (EnCodec)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from audiotok._platform.shapes import Wave
from audiotok.nn.spectrogram import hann
from audiotok.training.discriminators.base import (
    Discriminator,
    DiscriminatorOutput,
    SubDiscriminator,
    conv2d,
    filled,
    spectrogram,
)


@dataclass(frozen=True)
class Config:
    """Sizes of `MsStft`."""

    channels: int = 1  # channels of audio
    windows: tuple[int, ...] = (2048, 1024, 512, 256, 128)  # samples; the hop is a quarter
    width: int = 32  # features of every layer
    dilations: tuple[int, ...] = (1, 2, 4)  # over frames; each such layer halves the bins


class MsStft(Discriminator):
    """Multi-scale STFT discriminator: convolutions over complex bins in windows of several sizes.

    472,330 parameters as published (Défossez et al. 2022, arXiv:2210.13438, section 3.4; these
    five windows are the paper's and SpeechTokenizer's, the `encodec` package has three of them by
    default). A wave shorter than a window is padded with zeros.
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
            # The division by the window's energy makes all window sizes equally loud.
            window = hann(size, wave.device, gain=(3 * size / 8) ** -0.5)
            score, features = sub_discriminator(spectrogram(filled(wave, size), window, size // 4))
            outputs.append(DiscriminatorOutput(score[:, 0], features))
        return outputs


def _build(config: Config) -> SubDiscriminator:
    width = config.width
    layers = [
        # The published code has this one layer without weight normalisation.
        conv2d(2 * config.channels, width, (3, 9), normed=False),
        *(conv2d(width, width, (3, 9), stride=(1, 2), dilation=d) for d in config.dilations),
        conv2d(width, width, (3, 3)),
    ]
    return SubDiscriminator(layers, conv2d(width, 1, (3, 3)), slope=0.2)
