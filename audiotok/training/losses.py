"""Losses, one function each; a function's name is its key in a recipe.

    reconstruction   waveform  mel  mel_speechtokenizer  mel_dac  mel_vocos  stft  spectrum
                     complex_spectrum  phase: `f(output, reference, *, rate)`, in `RECONSTRUCTION`
    adversarial      generator  discriminator  feature_matching

Each takes the codec's output first, then the reference, and gives a scalar. What trains the
quantizer comes from the quantizer (`Quantized.losses`: SpeechTokenizer's and EnCodec's commitment
is `Rvq`'s); what teaches it content is in `distillation`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from audiotok._platform.shapes import Scalar, Wave
from audiotok.nn.spectrogram import (
    MEL_DAC,
    MEL_SPEECHTOKENIZER,
    MEL_VOCOS,
    STFT_SCALES,
    Bins,
    both,
    energy,
    hann,
    log_difference,
    magnitude,
    mel_bank,
    mel_distance,
    stft_distances,
)
from audiotok.training.discriminators.base import Opinion

# -- reconstruction -----------------------------------------------------------------------------


def waveform(output: Wave, reference: Wave, *, rate: int) -> Scalar:
    """Mean absolute difference of samples, the same at any rate."""
    return (output - reference).abs().mean()


MEL_SCALES = ((2048, 160), (1024, 80), (512, 40), (256, 20), (128, 10))
"""(window in samples, mel bands): DAC's, with bands that shrink with the window, so that none is
empty (SpeechTokenizer's 80 bands at 128 samples leave 13 empty)."""


def mel(output: Wave, reference: Wave, *, rate: int) -> Scalar:
    """Mean absolute difference of log10 mel magnitudes, summed over `MEL_SCALES` (Kumar et al.
    2023, arXiv:2306.06546, section 3.4): silence floor 1e-5, hop a quarter of the window."""
    total = output.new_zeros(())
    for size, bands in MEL_SCALES:
        # Slaney's normalisation divides by bandwidth in Hz; undone by the bin width, a window of
        # any size gives magnitudes of one scale.
        bank = mel_bank(rate, size, bands, output.device) * (rate / size)
        bins = _pair(output, reference, hann(size, output.device), size // 4, pad="constant")
        total = total + log_difference(*bins, bank, floor=1e-5)
    return total / math.log(10)


def mel_speechtokenizer(output: Wave, reference: Wave, *, rate: int) -> Scalar:
    """SpeechTokenizer's: mean absolute difference of natural log mel magnitudes, 80 bands each at
    windows of 1024, 512, 256 and 128 samples, weighted 1, 1/45, 1/45, 1/45.

    The published weights are 45, 1, 1, 1: in a recipe this loss weighs 45. See
    `spectrogram.MEL_SPEECHTOKENIZER`.
    """
    return mel_distance(output.flatten(0, 1), reference.flatten(0, 1), rate, MEL_SPEECHTOKENIZER)


def mel_dac(output: Wave, reference: Wave, *, rate: int) -> Scalar:
    """DAC's: mean absolute difference of log10 mel magnitudes, summed over windows of 32 to 2048
    samples with 5 to 320 bands; it weighs 15 in a recipe (`spectrogram.MEL_DAC`)."""
    return mel_distance(output.flatten(0, 1), reference.flatten(0, 1), rate, MEL_DAC)


def mel_vocos(output: Wave, reference: Wave, *, rate: int) -> Scalar:
    """Vocos's and WavTokenizer's: mean absolute difference of natural log mel magnitudes, 100
    bands, window 1024, hop 256; it weighs 45 in a recipe (`spectrogram.MEL_VOCOS`)."""
    return mel_distance(output.flatten(0, 1), reference.flatten(0, 1), rate, MEL_VOCOS)


def stft(output: Wave, reference: Wave, *, rate: int) -> Scalar:
    """Spectral convergence plus mean absolute difference of log magnitudes, mean over
    `STFT_SCALES`, whose windows and hops keep their lengths in seconds at other rates.

    Source: Yamamoto et al. 2020, arXiv:1910.11480, equations 3 to 6 (`spectrogram.stft_distances`).
    """
    total = output.new_zeros(())
    for size, width, hop in STFT_SCALES:
        size = 1 << math.ceil(math.log2(size * rate / 24000))
        window = hann(round(width * rate / 24000), output.device, fft=size)
        bins = _pair(output, reference, window, round(hop * rate / 24000))
        convergence, logarithms = stft_distances(*bins, floor=1e-7**0.5)
        total = total + convergence + logarithms
    return total / len(STFT_SCALES)


SPECTRUM_WINDOWS = (1024, 512, 256)
POWER = 0.3  # |X|^0.3 makes loud and quiet bins comparable (Braun and Tashev 2021, equation 4)


def spectrum(output: Wave, reference: Wave, *, rate: int) -> Scalar:
    """Mean absolute difference of compressed magnitudes |X|^0.3, mean over windows (Braun and
    Tashev 2021, arXiv:2009.12286, equation 4; absolute differences here, squares there)."""
    total = output.new_zeros(())
    for size in SPECTRUM_WINDOWS:
        made, wanted = (
            (energy(x) + 1e-8).log().mul(POWER / 2).exp() for x in _even(output, reference, size)
        )
        total = total + (made - wanted).abs().mean()
    return total / len(SPECTRUM_WINDOWS)


def complex_spectrum(output: Wave, reference: Wave, *, rate: int) -> Scalar:
    """Mean distance of compressed complex bins X |X|^(0.3 - 1), mean over windows (as `spectrum`).

    Magnitude alone leaves phase to chance; this asks for the waveform. Where phase is not learnt
    it only makes the output quieter.
    """
    total = output.new_zeros(())
    for size in SPECTRUM_WINDOWS:
        made, wanted = (
            x * (energy(x) + 1e-8).log().mul((POWER - 1) / 2).exp()
            for x in _even(output, reference, size)
        )
        # The length of a complex difference: its direction does not depend on the axes.
        total = total + magnitude(made - wanted, floor=1e-4).mean()
    return total / len(SPECTRUM_WINDOWS)


PHASE_WINDOWS = (1024, 512)
PHASE_TOP = 500.0  # Hz; higher, it takes bits from everything else (recipes/README.md)


def phase(output: Wave, reference: Wave, *, rate: int) -> Scalar:
    """One minus the cosine of the phase difference below 500 Hz, mean over bins weighted by
    |X|^0.6 of the reference, and over windows at a hop of a quarter: 0 for the reference at any
    loudness, about 1 for phases left to chance, 2 for the reference upside down.

    Source: Takamichi et al. 2018, arXiv:1807.03474, section 3.1 (phases as angles, by their
    cosine). Unlike `complex_spectrum` it asks nothing of magnitudes: where phase is not learnt yet,
    the gradient turns a bin and never shrinks it.
    """
    total = output.new_zeros(())
    for size in PHASE_WINDOWS:
        window = hann(size, output.device, gain=(3 * size / 8) ** -0.5)
        pair = _pair(output, reference, window, size // 4, pad="constant")
        made, wanted = (bins[..., : math.ceil(PHASE_TOP * size / rate) + 1] for bins in pair)
        ours, theirs = energy(made) + 1e-8, energy(wanted) + 1e-8
        cosine = (made * wanted.conj()).real / (ours * theirs).sqrt()
        weight = theirs.pow(POWER)
        total = total + (weight * (1 - cosine)).sum() / weight.sum()
    return total / len(PHASE_WINDOWS)


RECONSTRUCTION: dict[str, Callable[..., Scalar]] = {
    loss.__name__: loss
    for loss in (
        waveform,
        mel,
        mel_speechtokenizer,
        mel_dac,
        mel_vocos,
        stft,
        spectrum,
        complex_spectrum,
        phase,
    )
}
"""By name, each `f(output [b c t], reference [b c t], *, rate in Hz)`."""


def _pair(
    output: Wave,
    reference: Wave,
    window: Tensor,
    hop: int,
    *,
    pad: Literal["constant", "reflect"] = "reflect",
) -> tuple[Bins, Bins]:
    """Bins of both, channels side by side, padded by half a window; the second not learnt."""
    return both(output.flatten(0, 1), reference.flatten(0, 1), window, hop, pad=pad)


def _even(output: Tensor, reference: Tensor, size: int) -> tuple[Bins, Bins]:
    """Bins at a hop of half a window, which covers every sample."""
    # Divided by the window's energy, so that all sizes weigh alike.
    window = hann(size, output.device, gain=(3 * size / 8) ** -0.5)
    return _pair(output, reference, window, size // 2, pad="constant")


# -- adversarial --------------------------------------------------------------------------------

Gan = Literal["lsgan", "hinge"]
Reduce = Literal["mean", "sum"]


def generator(output: Sequence[Opinion], *, gan: Gan = "lsgan", reduce: Reduce = "mean") -> Scalar:
    """What a codec loses where discriminators take its output for a codec's.

    Args:
        output: their opinions of the codec's output.
        gan: "lsgan", (1 - score)^2 (Mao et al. 2017, arXiv:1611.04076; HiFi-GAN,
            SpeechTokenizer, DAC); "hinge", max(0, 1 - score) (Lim and Ye 2017, arXiv:1705.02894;
            EnCodec, Vocos).
        reduce: over discriminators: "mean" (EnCodec, Vocos), "sum" (HiFi-GAN, DAC).
    """
    return _reduced([_distance(one.score, 1, gan) for one in output], reduce)


def discriminator(
    output: Sequence[Opinion],
    reference: Sequence[Opinion],
    *,
    gan: Gan = "lsgan",
    reduce: Reduce = "mean",
) -> Scalar:
    """What discriminators lose: recordings should score 1, the codec's output 0 (lsgan) or -1.

    Args:
        output: opinions of the codec's output; detach that first, or keep the gradient from it.
        reference: opinions of recordings.
        gan, reduce: as for `generator`.
    """
    other = 0 if gan == "lsgan" else -1
    both = zip(output, reference, strict=True)
    terms = [_distance(o.score, other, gan) + _distance(r.score, 1, gan) for o, r in both]
    return _reduced(terms, reduce)


def feature_matching(
    output: Sequence[Opinion],
    reference: Sequence[Opinion],
    *,
    relative: bool = False,
    scores: bool = False,
    reduce: Reduce = "mean",
) -> Scalar:
    """Mean absolute difference of discriminators' features (Larsen et al. 2016, arXiv:1512.09300).

        HiFi-GAN, SpeechTokenizer   weight 2, scores, sum
        DAC                         weight 2, sum
        EnCodec                     relative
        Vocos                       scores; it sums over layers: weight 5 for mpd, 6 for mrd

    Args:
        output: opinions of the codec's output.
        reference: opinions of the recording; they get no gradient.
        relative: divide each layer's difference by the mean size of the reference's features.
        scores: count the score as one more layer.
        reduce: over all layers of all discriminators.
    """
    terms = []
    for made, wanted in zip(output, reference, strict=True):
        layers = list(zip(made.features, wanted.features, strict=True))
        layers += [(made.score, wanted.score)] if scores else []
        for one, other in layers:
            other = other.detach()
            term = (one - other).abs().mean()
            terms.append(term / other.abs().mean().clamp(min=1e-8) if relative else term)
    return _reduced(terms, reduce)


def _distance(score: Tensor, wanted: int, gan: str) -> Tensor:
    if gan == "lsgan":
        return (score - wanted).square().mean()
    if gan == "hinge":
        return (1 - wanted * score).relu().mean()
    raise ValueError(f"gan {gan!r} is none of lsgan, hinge")


def _reduced(terms: list[Tensor], reduce: Reduce) -> Tensor:
    total = torch.stack(terms).sum()
    return total / len(terms) if reduce == "mean" else total
