"""Losses of codec training, one function each; a function's name is its key in a recipe.

    reconstruction   waveform  mel  mel_speechtokenizer  mel_dac  mel_vocos  stft  spectrum
                     complex_spectrum  phase: `f(output, reference, *, rate)`, in `RECONSTRUCTION`
    adversarial      generator  discriminator  feature_matching

Each takes the codec's output first, then the reference, and returns a scalar. Losses that train the
quantizer come from the quantizer (`Quantized.losses`: SpeechTokenizer's and EnCodec's commitment
is `Rvq`'s); losses that teach it content are in `distillation`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from audiotok._platform.errors import InputError
from audiotok._platform.shapes import Scalar, Wave
from audiotok.nn.spectrogram import (
    MEL_DAC,
    MEL_SPEECHTOKENIZER,
    MEL_VOCOS,
    STFT_SCALES,
    Bins,
    bins_of_pair,
    energy,
    hann,
    log_difference,
    magnitude,
    mel_bank,
    mel_distance,
    stft_distances,
)
from audiotok.training.discriminators.base import DiscriminatorOutput

# -- reconstruction -----------------------------------------------------------------------------


def waveform(output: Wave, reference: Wave, *, rate: int) -> Scalar:
    """Return the mean absolute difference of samples, whatever the sample rate."""
    return (output - reference).abs().mean()


MEL_SCALES = ((2048, 160), (1024, 80), (512, 40), (256, 20), (128, 10))
"""Pairs (window in samples, mel bands) of `mel`: DAC's windows, with fewer bands in shorter ones,
so that no band is empty (SpeechTokenizer's 80 bands at 128 samples leave 13 empty)."""


def mel(output: Wave, reference: Wave, *, rate: int) -> Scalar:
    """Return the mean absolute difference of log10 mel magnitudes, summed over `MEL_SCALES`.

    The magnitudes have a floor of 1e-5; the hop is a quarter of the window. Source: Kumar et al.
    2023, arXiv:2306.06546, section 3.4.
    """
    total = output.new_zeros(())
    for size, bands in MEL_SCALES:
        # Slaney's normalisation divides by bandwidth in Hz; undone by the bin width, a window of
        # any size gives magnitudes of one scale.
        bank = mel_bank(rate, size, bands, output.device) * (rate / size)
        bins = _pair(output, reference, hann(size, output.device), size // 4, pad="constant")
        total = total + log_difference(*bins, bank, floor=1e-5)
    return total / math.log(10)


def mel_speechtokenizer(output: Wave, reference: Wave, *, rate: int) -> Scalar:
    """Return SpeechTokenizer's mel loss, the mean absolute difference of natural log magnitudes.

    It has 80 bands each at windows of 1024, 512, 256 and 128 samples, weighted 1, 1/45, 1/45, 1/45.
    The published weights are 45, 1, 1, 1: in a recipe this loss weighs 45. See
    `spectrogram.MEL_SPEECHTOKENIZER`.
    """
    return mel_distance(output.flatten(0, 1), reference.flatten(0, 1), rate, MEL_SPEECHTOKENIZER)


def mel_dac(output: Wave, reference: Wave, *, rate: int) -> Scalar:
    """Return DAC's mel loss, the mean absolute difference of log10 magnitudes, summed over windows.

    Windows have 32 to 2048 samples and 5 to 320 bands. Its weight in a recipe is 15. See
    `spectrogram.MEL_DAC`.
    """
    return mel_distance(output.flatten(0, 1), reference.flatten(0, 1), rate, MEL_DAC)


def mel_vocos(output: Wave, reference: Wave, *, rate: int) -> Scalar:
    """Return Vocos's and WavTokenizer's mel loss, the mean absolute difference of natural logs.

    It has 100 bands, windows of 1024 samples and a hop of 256. Its weight in a recipe is 45. See
    `spectrogram.MEL_VOCOS`.
    """
    return mel_distance(output.flatten(0, 1), reference.flatten(0, 1), rate, MEL_VOCOS)


def stft(output: Wave, reference: Wave, *, rate: int) -> Scalar:
    """Return spectral convergence plus mean absolute log difference, averaged over `STFT_SCALES`.

    Windows and hops keep their lengths in seconds at every sample rate.

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
    """Return the mean absolute difference of compressed magnitudes |X|^0.3, averaged over windows.

    Source: Braun and Tashev 2021, arXiv:2009.12286, equation 4 (absolute differences here, squares
    there).
    """
    total = output.new_zeros(())
    for size in SPECTRUM_WINDOWS:
        output_bins, reference_bins = (
            (energy(x) + 1e-8).log().mul(POWER / 2).exp() for x in _even(output, reference, size)
        )
        total = total + (output_bins - reference_bins).abs().mean()
    return total / len(SPECTRUM_WINDOWS)


def complex_spectrum(output: Wave, reference: Wave, *, rate: int) -> Scalar:
    """Return the mean distance of compressed complex bins X |X|^(0.3 - 1), averaged over windows.

    Magnitudes alone, as in `spectrum`, leave phase free; this loss constrains the waveform. Where
    phase is not learnt it only makes the output quieter.
    """
    total = output.new_zeros(())
    for size in SPECTRUM_WINDOWS:
        output_bins, reference_bins = (
            x * (energy(x) + 1e-8).log().mul((POWER - 1) / 2).exp()
            for x in _even(output, reference, size)
        )
        # The magnitude of the complex difference treats real and imaginary parts alike.
        total = total + magnitude(output_bins - reference_bins, floor=1e-4).mean()
    return total / len(SPECTRUM_WINDOWS)


PHASE_WINDOWS = (1024, 512)
PHASE_TOP = 500.0  # Hz; a higher limit costs quality everywhere else (recipes/README.md)


def phase(output: Wave, reference: Wave, *, rate: int) -> Scalar:
    """Return one minus the cosine of the phase difference below 500 Hz, averaged over bins.

    Bins are weighted by |X|^0.6 of the reference; the mean is also over windows, at a hop of a
    quarter. The loss is 0 for the reference at any loudness, about 1 for random phases and 2 for
    the reference with its sign flipped.

    Source: Takamichi et al. 2018, arXiv:1807.03474, section 3.1 (phases as angles, by their
    cosine). Unlike `complex_spectrum` it leaves magnitudes free: where phase is not learnt yet, the
    gradient turns a bin and never shrinks it.
    """
    total = output.new_zeros(())
    for size in PHASE_WINDOWS:
        window = hann(size, output.device, gain=(3 * size / 8) ** -0.5)
        pair = _pair(output, reference, window, size // 4, pad="constant")
        top = math.ceil(PHASE_TOP * size / rate) + 1
        output_bins, reference_bins = (bins[..., :top] for bins in pair)
        output_energy, reference_energy = energy(output_bins) + 1e-8, energy(reference_bins) + 1e-8
        cross = (output_bins * reference_bins.conj()).real
        cosine = cross / (output_energy * reference_energy).sqrt()
        weight = reference_energy.pow(POWER)
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
"""Reconstruction losses by name, each `f(output [b c t], reference [b c t], *, rate in Hz)`."""


def _pair(
    output: Wave,
    reference: Wave,
    window: Tensor,
    hop: int,
    *,
    pad: Literal["constant", "reflect"] = "reflect",
) -> tuple[Bins, Bins]:
    """Return bins of both, channels in the batch, padded by half a window; the second detached."""
    return bins_of_pair(output.flatten(0, 1), reference.flatten(0, 1), window, hop, pad=pad)


def _even(output: Tensor, reference: Tensor, size: int) -> tuple[Bins, Bins]:
    """Return bins of both at a hop of half a window, which covers every sample."""
    # The division by the window's energy gives all window sizes the same weight.
    window = hann(size, output.device, gain=(3 * size / 8) ** -0.5)
    return _pair(output, reference, window, size // 2, pad="constant")


# -- adversarial --------------------------------------------------------------------------------

Gan = Literal["lsgan", "hinge"]
Reduce = Literal["mean", "sum"]


def generator(
    output: Sequence[DiscriminatorOutput], *, gan: Gan = "lsgan", reduce: Reduce = "mean"
) -> Scalar:
    """Return the adversarial loss of the codec: low where its output scores as a recording.

    Args:
        output: outputs of the discriminators on the codec's output.
        gan: "lsgan", (1 - score)^2 (Mao et al. 2017, arXiv:1611.04076; HiFi-GAN,
            SpeechTokenizer, DAC); "hinge", max(0, 1 - score) (Lim and Ye 2017, arXiv:1705.02894;
            EnCodec, Vocos).
        reduce: reduction over discriminators, "mean" (EnCodec, Vocos) or "sum" (HiFi-GAN, DAC).
    """
    return _reduced([_distance(one.score, 1, gan) for one in output], reduce)


def discriminator(
    output: Sequence[DiscriminatorOutput],
    reference: Sequence[DiscriminatorOutput],
    *,
    gan: Gan = "lsgan",
    reduce: Reduce = "mean",
) -> Scalar:
    """Return the loss of the discriminators.

    Recordings should score 1, the codec's output 0 ("lsgan") or -1 ("hinge").

    Args:
        output: outputs on the codec's output, which should be detached.
        reference: outputs on recordings.
        gan: as for `generator`.
        reduce: as for `generator`.
    """
    low = 0 if gan == "lsgan" else -1
    bins_of_pair = zip(output, reference, strict=True)
    terms = [_distance(o.score, low, gan) + _distance(r.score, 1, gan) for o, r in bins_of_pair]
    return _reduced(terms, reduce)


def feature_matching(
    output: Sequence[DiscriminatorOutput],
    reference: Sequence[DiscriminatorOutput],
    *,
    relative: bool = False,
    scores: bool = False,
    reduce: Reduce = "mean",
) -> Scalar:
    """Return the mean absolute difference of discriminators' features.

    Source: Larsen et al. 2016, arXiv:1512.09300. Settings of published trainers:

        HiFi-GAN, SpeechTokenizer   weight 2, scores, sum
        DAC                         weight 2, sum
        EnCodec                     relative
        Vocos                       scores; it sums over layers: weight 5 for mpd, 6 for mrd

    Args:
        output: outputs on the codec's output.
        reference: outputs on the recording; they get no gradient.
        relative: whether to divide each layer's difference by the mean size of the reference's
            features.
        scores: whether the score counts as one more layer.
        reduce: reduction over all layers of all discriminators.
    """
    terms = []
    for fake, real in zip(output, reference, strict=True):
        layers = list(zip(fake.features, real.features, strict=True))
        layers += [(fake.score, real.score)] if scores else []
        for fake_layer, real_layer in layers:
            real_layer = real_layer.detach()
            term = (fake_layer - real_layer).abs().mean()
            terms.append(term / real_layer.abs().mean().clamp(min=1e-8) if relative else term)
    return _reduced(terms, reduce)


def _distance(score: Tensor, target: int, gan: str) -> Tensor:
    if gan == "lsgan":
        return (score - target).square().mean()
    if gan == "hinge":
        return (1 - target * score).relu().mean()
    raise InputError(f"gan {gan!r} is none of lsgan, hinge")


def _reduced(terms: list[Tensor], reduce: Reduce) -> Tensor:
    total = torch.stack(terms).sum()
    return total / len(terms) if reduce == "mean" else total
