"""Multi-period discriminator: every p-th sample, for several p (HiFi-GAN)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from audiotok._platform.shapes import Wave
from audiotok.training.discriminators.base import Discriminator, Judge, Opinion, conv2d, levelled


@dataclass(frozen=True)
class Config:
    """Sizes of `Mpd`."""

    channels: int = 1  # of audio
    periods: tuple[int, ...] = (2, 3, 5, 7, 11)  # samples; primes overlap least
    width: int = 32  # features of the first layer; 4, 16, 32 and 32 times as many follow
    level: bool = False  # whether each recording is brought to one peak first, as DAC does
    skip: int = 0  # first layers whose features are kept back; 1 in Vocos


class Mpd(Discriminator):
    """A waveform folded into rows of p samples, each column convolved by itself.

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
        self.shortest = max(config.periods)  # the last row is filled by mirroring
        self.judges = nn.ModuleList(_judge(config) for _ in config.periods)

    def judge(self, wave: Wave) -> list[Opinion]:
        """One opinion for each period, scores `[b p steps]`."""
        wave = levelled(wave) if self.config.level else wave
        opinions = []
        for period, judge in zip(self.config.periods, self.judges, strict=True):
            columns = _fold(wave, period)
            score, features = judge(columns)
            part = (len(wave), period)
            kept = [x.unflatten(0, part) for x in features[self.config.skip :]]
            opinions.append(Opinion(score.unflatten(0, part)[:, :, 0, 0], kept))
        return opinions


def _judge(config: Config) -> Judge:
    widths = [config.channels, *(n * config.width for n in (1, 4, 16, 32, 32))]
    strides = (3, 3, 3, 3, 1)
    layers = [
        conv2d(inputs, outputs, (1, 5), stride=(1, stride))
        for inputs, outputs, stride in zip(widths, widths[1:], strides, strict=False)
    ]
    return Judge(layers, conv2d(widths[-1], 1, (1, 3)), slope=0.1)


def _fold(wave: Wave, period: int) -> Tensor:
    """`[b c t]` to columns `[b*p c 1 t/p]`, a last row that is not whole mirrored.

    A column is a signal of its own: convolved in one dimension it takes half the time that rows
    and columns take in two.
    """
    wave = F.pad(wave, (0, -wave.shape[2] % period), "reflect")
    return wave.unflatten(2, (-1, period)).permute(0, 3, 1, 2).flatten(0, 1)[:, :, None]
