"""Multi-scale discriminator: the waveform, and means of it at lower rates (MelGAN, HiFi-GAN)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from audiotok._platform.errors import InputError
from audiotok._platform.shapes import Wave
from audiotok.training.discriminators.base import (
    Discriminator,
    DiscriminatorOutput,
    SubDiscriminator,
)


@dataclass(frozen=True)
class Config:
    """Sizes of `Msd`."""

    channels: int = 1  # channels of audio
    scales: int = 3  # sub-discriminators; each gets half the rate of the one before
    width: int = 128  # features of the first layer, a multiple of 16; at most 8 times as many


class Msd(Discriminator):
    """Multi-scale discriminator: long grouped convolutions of the waveform at several rates.

    29,618,821 parameters as published (Kong et al. 2020, arXiv:2010.05646, section 2.3; also
    SpeechTokenizer's). The sub-discriminator of the full rate is spectrally normalised, and in
    training mode each forward pass updates that estimate; the others are weight-normalised.

    Raises:
        ValueError: the width is not a multiple of the groups.
    """

    config_type = Config

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()
        if config.width % 16:
            raise InputError(f"width {config.width} is no multiple of the 16 groups")
        self.judges = nn.ModuleList(_build(config, first=i == 0) for i in range(config.scales))

    def discriminate(self, wave: Wave) -> list[DiscriminatorOutput]:
        """Return the outputs for each scale, scores `[b steps]`."""
        outputs = []
        for i, sub_discriminator in enumerate(self.judges):
            wave = F.avg_pool1d(wave, 4, 2, padding=2) if i else wave
            score, features = sub_discriminator(wave)
            outputs.append(DiscriminatorOutput(score[:, 0], features))
        return outputs


def _build(config: Config, *, first: bool) -> SubDiscriminator:
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
    return SubDiscriminator(layers, norm(nn.Conv1d(inputs, 1, 3, padding=1)), slope=0.1)
