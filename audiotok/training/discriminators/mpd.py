"""Multi-period discriminator: every p-th sample, for several p (HiFi-GAN)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from audiotok._platform.shapes import Wave
from audiotok.training.discriminators.base import (
    Discriminator,
    DiscriminatorOutput,
    SubDiscriminator,
    conv2d,
    levelled,
)


@dataclass(frozen=True)
class Config:
    """Sizes of `Mpd`."""

    channels: int = 1  # channels of audio
    periods: tuple[int, ...] = (2, 3, 5, 7, 11)  # samples; primes overlap least
    width: int = 32  # features of the first layer; 4, 16, 32 and 32 times as many follow
    level: bool = False  # whether each recording gets one mean and peak first, as in DAC
    skip: int = 0  # number of first layers whose features are left out; 1 in Vocos


class Mpd(Discriminator):
    """Multi-period discriminator: a waveform in rows of p samples, each column convolved by itself.

        samples  0 1 2 3 4 5 6 7 8 ...   p = 3    0 3 6 ...
                                                  1 4 7 ...   three signals, one set of weights
                                                  2 5 8 ...

    41,105,770 parameters as published (Kong et al. 2020, arXiv:2010.05646, section 2.3; also
    SpeechTokenizer's and DAC's). Vocos's and WavTokenizer's 41,126,250 are these and 20,480 of an
    embedding of the bitrate, of which WavTokenizer only ever uses one of four rows.
    """

    config_type = Config

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()
        self.shortest = max(config.periods)  # the last row is padded by reflection
        self.judges = nn.ModuleList(_build(config) for _ in config.periods)

    def discriminate(self, wave: Wave) -> list[DiscriminatorOutput]:
        """Return the outputs for each period, scores `[b p steps]`."""
        wave = levelled(wave) if self.config.level else wave
        outputs = []
        for period, sub_discriminator in zip(self.config.periods, self.judges, strict=True):
            columns = _fold(wave, period)
            score, features = sub_discriminator(columns)
            part = (len(wave), period)
            maps = [x.unflatten(0, part) for x in features[self.config.skip :]]
            outputs.append(DiscriminatorOutput(score.unflatten(0, part)[:, :, 0, 0], maps))
        return outputs


def _build(config: Config) -> SubDiscriminator:
    widths = [config.channels, *(n * config.width for n in (1, 4, 16, 32, 32))]
    strides = (3, 3, 3, 3, 1)
    layers = [
        conv2d(inputs, outputs, (1, 5), stride=(1, stride))
        for inputs, outputs, stride in zip(widths, widths[1:], strides, strict=False)
    ]
    return SubDiscriminator(layers, conv2d(widths[-1], 1, (1, 3)), slope=0.1)


def _fold(wave: Wave, period: int) -> Tensor:
    """Return a wave `[b c t]` as columns `[b*p c 1 t/p]`; the last row is padded by reflection.

    Each column is a signal of its own: one-dimensional convolutions take half the time of
    two-dimensional ones over rows and columns.
    """
    wave = F.pad(wave, (0, -wave.shape[2] % period), "reflect")
    return wave.unflatten(2, (-1, period)).permute(0, 3, 1, 2).flatten(0, 1)[:, :, None]
