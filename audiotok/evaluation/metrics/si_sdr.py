"""SI-SDR, scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from audiotok.audio.audio import EXACT, Audio, is_silent
from audiotok.evaluation.metrics.base import Metric, Score, pair

WITHIN = 0.05  # seconds of lag that `aligned` searches on either side


class SiSdr(Metric):
    """SI-SDR in dB, means removed, not aligned: a codec here delays nothing.

    `si_sdr:aligned` first moves the output by the whole number of samples, at most 50 ms, at which
    it looks most like the reference, either way up: a codec that is late by a few samples sounds
    the same and scores far below zero (DAC's published -9.5 dB). The sign alone never mattered:
    SI-SDR projects on the reference, whatever the factor.

    `si_sdr:raw` keeps the means, as torchmetrics does unless told otherwise; a recording with an
    offset then scores a little less.
    """

    better = "higher"
    unit = "dB"
    protocol = "dB, zero mean, lag 0, output's rate, mono mean"
    options = ("aligned", "raw")

    def __init__(self, option: str = "", *, models: Mapping[str, str] | None = None) -> None:
        super().__init__(option, models=models)
        if option == "raw":
            self.protocol = self.protocol.replace("zero mean", "means kept")
        if option == "aligned":
            self.protocol = (
                f"dB, zero mean, best lag within {WITHIN * 1000:.0f} ms in whole samples, either "
                "polarity, over what overlaps, output's rate, mono mean"
            )

    def score(self, output: Audio, reference: Audio, text: str | None = None) -> Score:
        """See `Metric.score`; silence has no SI-SDR, and a perfect output no finite one."""
        made, wanted = pair(output, reference)
        if self.option == "aligned":
            made, wanted = _centred(made, "output"), _centred(wanted, "reference")
            lag, _ = alignment(made, wanted, round(WITHIN * output.rate))
            made, wanted = made[max(0, lag) :], wanted[max(0, -lag) :]
            length = min(len(made), len(wanted))
            made, wanted = made[:length], wanted[:length]
        one, other = _centred(made, "output"), _centred(wanted, "reference")
        if self.option == "raw":
            one, other = made.double(), wanted.double()
        made, wanted = one, other
        projected = (made @ wanted) / wanted.square().sum() * wanted
        signal = projected.square().sum()
        noise = (made - projected).square().sum()
        if noise <= EXACT * signal:
            raise ValueError("SI-SDR: the output is the reference, scaled; the ratio is infinite")
        if signal <= EXACT * noise:
            raise ValueError("SI-SDR: the output has nothing of the reference; minus infinity")
        return Score(float(10 * torch.log10(signal / noise)), 1)


def alignment(made: Tensor, wanted: Tensor, limit: int) -> tuple[int, int]:
    """By how many samples `made` is later than `wanted`, and whether it is upside down.

    The lag is that of the largest cross-correlation in size, means removed, computed by FFT; where
    several are as large, the one nearest to 0.

    Args:
        made: the output `[t]`, of the reference's length.
        wanted: the reference `[t]`.
        limit: of the lag, in samples; at most half of the length is searched.

    Returns:
        lag, sign: `made[n + lag]` is like `sign * wanted[n]`, the sign 1 or -1.

    Raises:
        ValueError: lengths that differ.
    """
    if len(made) != len(wanted):
        raise ValueError(f"{len(made)} and {len(wanted)} samples cannot be aligned: cut them first")
    limit = min(limit, len(made) // 2)
    size = 1 << (len(made) + limit).bit_length()  # no lag that is searched wraps around
    spectra = (torch.fft.rfft(x.double() - x.double().mean(), size) for x in (made, wanted))
    one, other = spectra
    found = torch.fft.irfft(one * other.conj(), size)
    # 0, 1, -1, 2, -2 ...: the first of equals is the nearest
    lags = sorted(range(-limit, limit + 1), key=abs)
    values = found[torch.tensor(lags) % size]
    best = int(values.abs().argmax())
    return lags[best], -1 if values[best] < 0 else 1


def _centred(wave: Tensor, name: str) -> Tensor:
    wave = wave.double()
    if is_silent(wave):
        raise ValueError(f"SI-SDR: the {name} is silent")
    return wave - wave.mean()
