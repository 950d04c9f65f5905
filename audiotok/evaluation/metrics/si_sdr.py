"""SI-SDR, scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from audiotok._platform.errors import InputError
from audiotok.audio.audio import EXACT, Audio, is_silent
from audiotok.evaluation.metrics.base import InfiniteScoreError, Metric, Score, pair

WITHIN = 0.05  # seconds of lag that `aligned` searches on either side


class SiSdr(Metric):
    """SI-SDR in dB with means removed and no time alignment, since codecs here add no delay.

    `si_sdr:aligned` first shifts the output by the whole number of samples, at most 50 ms, at which
    it correlates most with the reference in magnitude: a codec with a delay of a few samples sounds
    the same and scores far below zero (DAC's published -9.5 dB). The sign alone never mattered:
    SI-SDR projects on the reference, whatever the factor.

    `si_sdr:raw` keeps the means, as torchmetrics does by default; a recording with a constant
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
        estimate, target = pair(output, reference)
        if self.option == "aligned":
            estimate, target = _centred(estimate, "output"), _centred(target, "reference")
            lag, _ = alignment(estimate, target, round(WITHIN * output.rate))
            estimate, target = estimate[max(0, lag) :], target[max(0, -lag) :]
            length = min(len(estimate), len(target))
            estimate, target = estimate[:length], target[:length]
        one, other = _centred(estimate, "output"), _centred(target, "reference")
        if self.option == "raw":
            one, other = estimate.double(), target.double()
        estimate, target = one, other
        projected = (estimate @ target) / target.square().sum() * target
        signal = projected.square().sum()
        noise = (estimate - projected).square().sum()
        if noise <= EXACT * signal:
            raise InfiniteScoreError("SI-SDR: the output is the reference, scaled: infinite")
        if signal <= EXACT * noise:
            text = "SI-SDR: the output has nothing of the reference: minus infinity"
            raise InfiniteScoreError(text, -math.inf)
        return Score(float(10 * torch.log10(signal / noise)), 1)


def alignment(estimate: Tensor, target: Tensor, limit: int) -> tuple[int, int]:
    """Return the delay of an output against its reference in samples, and its polarity.

    The lag is that of the largest absolute cross-correlation, means removed, computed by FFT; among
    equally large ones it is the lag nearest to 0.

    Args:
        estimate: the output `[t]`, of the reference's length.
        target: the reference `[t]`.
        limit: largest lag in samples; at most half of the length is searched.

    Returns:
        lag, sign: `estimate[n + lag]` is like `sign * target[n]`, the sign 1 or -1.

    Raises:
        ValueError: the lengths differ.
    """
    if len(estimate) != len(target):
        raise InputError(
            f"{len(estimate)} and {len(target)} samples cannot be aligned: cut them first"
        )
    limit = min(limit, len(estimate) // 2)
    size = 1 << (len(estimate) + limit).bit_length()  # no lag within the limit wraps around
    spectra = (torch.fft.rfft(x.double() - x.double().mean(), size) for x in (estimate, target))
    one, other = spectra
    correlation = torch.fft.irfft(one * other.conj(), size)
    # In the order 0, 1, -1, 2, -2 ..., argmax returns the nearest of equal lags.
    lags = sorted(range(-limit, limit + 1), key=abs)
    values = correlation[torch.tensor(lags) % size]
    best = int(values.abs().argmax())
    return lags[best], -1 if values[best] < 0 else 1


def _centred(wave: Tensor, name: str) -> Tensor:
    """Return the waveform `[t]` in double precision without its mean; raise if it is silent."""
    wave = wave.double()
    if is_silent(wave):
        raise InputError(f"SI-SDR: the {name} is silent")
    return wave - wave.mean()
