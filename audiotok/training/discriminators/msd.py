"""Multi-scale discriminator: the waveform, and means of it at lower rates (MelGAN, HiFi-GAN)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from audiotok._platform.shapes import Wave
from audiotok.training.discriminators.base import Discriminator, Judge, Opinion


@dataclass(frozen=True)
class Config:
    """Sizes of `Msd`."""

    channels: int = 1  # of audio
    scales: int = 3  # judges; each hears half the rate of the one before
    width: int = 128  # features of the first layer, a multiple of 16; at most 8 times as many


class Msd(Discriminator):
    """Long grouped convolutions of the waveform, one judge for each rate.

    29,618,821 parameters as published (Kong et al. 2020, arXiv:2010.05646, section 2.3; also
    SpeechTokenizer's). The judge of the full rate is spectrally normalised, and in training mode
    each of its forwards moves that estimate; the others are weight-normalised.

    Raises:
        ValueError: a width that the groups do not divide.
    """

    config_type = Config

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()
        if config.width % 16:
            raise ValueError(f"width {config.width} is no multiple of the 16 groups")
        self.judges = nn.ModuleList(_judge(config, first=i == 0) for i in range(config.scales))

    def judge(self, wave: Wave) -> list[Opinion]:
        """One opinion for each scale, scores `[b steps]`."""
        opinions = []
        for i, judge in enumerate(self.judges):
            wave = F.avg_pool1d(wave, 4, 2, padding=2) if i else wave
            score, features = judge(wave)
            opinions.append(Opinion(score[:, 0], features))
        return opinions


def _judge(config: Config, *, first: bool) -> Judge:
    norm = spectral_norm if first else weight_norm
    inputs, layers = config.channels, []
    # (features over width, kernel, stride, groups)
    for times, kernel, stride, groups in (
        (1, 15, 1, 1),
        (1, 41, 2, 4),
        (2, 41, 2, 16),
        (4, 41, 4, 16),
        (8, 41, 4, 16),
        (8, 41, 1, 16),
        (8, 5, 1, 1),
    ):
        outputs = times * config.width
        conv = nn.Conv1d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, groups=groups)
        layers.append(norm(conv))
        inputs = outputs
    return Judge(layers, norm(nn.Conv1d(inputs, 1, 3, padding=1)), slope=0.1)
