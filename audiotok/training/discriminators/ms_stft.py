"""Multi-scale STFT discriminator: complex spectra in windows of several sizes (EnCodec)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from audiotok._platform.shapes import Wave
from audiotok.nn.spectrogram import hann
from audiotok.training.discriminators.base import (
    Discriminator,
    Judge,
    Opinion,
    conv2d,
    filled,
    spectrogram,
)


@dataclass(frozen=True)
class Config:
    """Sizes of `MsStft`."""

    channels: int = 1  # of audio
    windows: tuple[int, ...] = (2048, 1024, 512, 256, 128)  # samples; the hop is a quarter
    width: int = 32  # features of every layer
    dilations: tuple[int, ...] = (1, 2, 4)  # over frames; each such layer halves the bins


class MsStft(Discriminator):
    """Convolutions over frames and bins of real and imaginary parts, one judge for each window.

    472,330 parameters as published (Défossez et al. 2022, arXiv:2210.13438, section 3.4; these
    five windows are the paper's and SpeechTokenizer's, the `encodec` package has three of them by
    default). A wave shorter than a window is filled up with zeros.
    """

    config_type = Config

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()
        self.judges = nn.ModuleList(_judge(config) for _ in config.windows)

    def judge(self, wave: Wave) -> list[Opinion]:
        """One opinion for each window, scores `[b frames bins]`."""
        opinions = []
        for size, judge in zip(self.config.windows, self.judges, strict=True):
            # Divided by the window's energy, so that all sizes are equally loud.
            window = hann(size, wave.device, gain=(3 * size / 8) ** -0.5)
            score, features = judge(spectrogram(filled(wave, size), window, size // 4))
            opinions.append(Opinion(score[:, 0], features))
        return opinions


def _judge(config: Config) -> Judge:
    width = config.width
    layers = [
        # The one layer that the published code leaves without weight normalisation.
        conv2d(2 * config.channels, width, (3, 9), normed=False),
        *(conv2d(width, width, (3, 9), stride=(1, 2), dilation=d) for d in config.dilations),
        conv2d(width, width, (3, 3)),
    ]
    return Judge(layers, conv2d(width, 1, (3, 3)), slope=0.2)
