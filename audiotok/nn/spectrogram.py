"""Spectral losses and metrics: a short-time Fourier transform with a fast gradient, mel filters,
and the distances of published settings.

A spectral loss is among the costliest parts of a training step on a CPU, and three quarters of it
is the gradient of `torch.stft`: a full complex transform, a generic overlap-add, and sums over an
axis of two. The two functions here with a gradient of their own halve the cost of a loss.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
from jaxtyping import Complex, Float
from torch import Tensor
from torch.nn import functional as F

from audiotok._platform.errors import InputError
from audiotok._platform.shapes import Scalar
from audiotok.audio import _torchaudio

Signal = Float[Tensor, "n t"]
Padded = Float[Tensor, "n u"]
Bins = Complex[Tensor, "n f bins"]
Window = Float[Tensor, " size"]


def stft(x: Signal, window: Window, hop: int) -> Bins:
    """Return the spectrum of frames that are `hop` apart; the first begins at sample 0.

    Samples after the last whole frame are left out. There is no padding: see `padded`.

    Args:
        x: signals `[n t]`.
        window: window `[size]`, as long as the transform.
        hop: samples from one frame to the next.

    Returns:
        Complex bins `[n f size//2+1]`.

    Raises:
        ValueError: `x` is shorter than the window.
    """
    if x.shape[1] < len(window):
        raise InputError(f"{x.shape[1]} samples are fewer than the {len(window)} of one window")
    return _Stft.apply(x.float(), window, hop)  # type: ignore[return-value]


def energy(bins: Bins) -> Float[Tensor, "n f bins"]:
    """Return squared magnitudes, whose gradient is zero at zero."""
    return _Energy.apply(bins)  # type: ignore[return-value]


def magnitude(bins: Bins, *, floor: float = 1e-6) -> Float[Tensor, "n f bins"]:
    """Return magnitudes no smaller than `floor`, so that the gradient is finite at silence."""
    return (energy(bins) + floor**2).sqrt()


def padded(x: Signal, width: int, mode: Literal["constant", "reflect"]) -> Padded:
    """Pad signals by `width` samples on either side, with zeros or the mirrored signal.

    Raises:
        ValueError: the signal is too short to mirror.
    """
    if mode == "reflect" and x.shape[1] <= width:
        raise InputError(f"{x.shape[1]} samples cannot be mirrored by {width}: use longer crops")
    return F.pad(x[:, None], (width, width), mode)[:, 0]


@cache
def hann(size: int, device: torch.device, *, fft: int = 0, gain: float = 1.0) -> Window:
    """Return a periodic Hann window times `gain`, centred in `fft` samples if that is more."""
    window = gain * torch.hann_window(size, device=device)
    before = (fft - size) // 2 if fft > size else 0
    return F.pad(window, (before, max(fft, size) - size - before))


@cache
def mel_bank(
    rate: int,
    size: int,
    bands: int,
    device: torch.device,
    *,
    norm: Literal["slaney"] | None = "slaney",
    scale: Literal["slaney", "htk"] = "slaney",
) -> Float[Tensor, "bins bands"]:
    """Return triangular mel filters `[bins bands]` from 0 Hz to half the sample rate.

    Args:
        rate: sample rate in Hz.
        size: length of the transform in samples.
        bands: number of filters.
        device: device of the result.
        norm: "slaney" divides each filter by its width in Hz (librosa's default).
        scale: Slaney's mel scale, linear below 1 kHz (librosa's default), or HTK's.
    """
    functional = _torchaudio.load().functional
    with warnings.catch_warnings():
        # Some published settings have empty bands; the losses that use them document it.
        warnings.filterwarnings("ignore", "At least one mel filterbank has all zero values")
        bank = functional.melscale_fbanks(
            size // 2 + 1, 0.0, rate / 2, bands, rate, norm=norm, mel_scale=scale
        )
    return bank.to(device)


@dataclass(frozen=True)
class MelSettings:
    """Settings of a published distance between log-mel magnitudes.

    Attributes:
        scales: for each resolution: window and transform, hop, number of bands, padding on either
            side, weight; lengths in samples.
        norm: as for `mel_bank`.
        scale: as for `mel_bank`.
        floor: least magnitude of a band.
        least: least magnitude of a bin, so small that the sum over a band stays below `floor`.
        log10: whether logarithms are decimal instead of natural.
    """

    scales: tuple[tuple[int, int, int, int, float], ...]
    norm: Literal["slaney"] | None
    scale: Literal["slaney", "htk"]
    floor: float
    least: float = 1e-6
    log10: bool = False


MEL_SPEECHTOKENIZER = MelSettings(
    scales=tuple(
        (size, hop, 80, (size - hop) // 2, weight / 45)
        for size, hop, weight in ((1024, 240, 45), (512, 120, 1), (256, 60, 1), (128, 30, 1))
    ),
    norm="slaney",
    scale="htk",
    floor=1e-5,
)
"""80 bands each, the shorter windows weighted 1/45 (Zhang et al. 2024, arXiv:2308.16692, and its
code, trainer/loss.py). They leave bands empty, 2 and 13 of 80 at 16 kHz, which add nothing."""

MEL_DAC = MelSettings(
    scales=tuple((32 << i, 8 << i, 5 << i, 16 << i, 1.0) for i in range(7)),
    norm="slaney",
    scale="slaney",
    floor=1e-5,
    log10=True,
)
"""Windows of 32 to 2048 samples with 5 to 320 bands, in decimal logarithms alone (Kumar et al.
2023, arXiv:2306.06546, section 3.4, and its conf/base.yml: magnitudes to the power 1)."""

MEL_VOCOS = MelSettings(
    scales=((1024, 256, 100, 512, 1.0),), norm=None, scale="htk", floor=1e-7, least=1e-9
)
"""100 bands, window 1024, hop 256 (Siuzdak 2024, arXiv:2306.00814); WavTokenizer's too."""

STFT_SCALES = ((1024, 600, 120), (2048, 1200, 240), (512, 240, 50))
"""(transform, window, hop) in samples at 24 kHz, Parallel WaveGAN's (arXiv:1910.11480)."""


def mel_distance(output: Signal, reference: Signal, rate: int, settings: MelSettings) -> Scalar:
    """Return the mean absolute difference of log-mel magnitudes, a weighted sum over scales."""
    total = output.new_zeros(())
    for size, hop, bands, width, weight in settings.scales:
        bank = mel_bank(rate, size, bands, output.device, norm=settings.norm, scale=settings.scale)
        bins = bins_of_pair(output, reference, hann(size, output.device), hop, width=width)
        difference = log_difference(*bins, bank, floor=settings.floor, least=settings.least)
        total = total + weight * difference
    return total / math.log(10) if settings.log10 else total


def stft_distances(
    output: Bins, reference: Bins, *, floor: float, clamped: bool = False
) -> tuple[Scalar, Scalar]:
    """Return spectral convergence and the mean absolute difference of natural log magnitudes.

    Convergence is taken for each recording and then averaged, so that a loud recording does not
    outweigh the others of its batch. Source: Yamamoto et al. 2020, arXiv:1910.11480, equations 4
    and 5.

    Args:
        output: bins of the output `[n f bins]`.
        reference: bins of the reference `[n f bins]`.
        floor: least magnitude; magnitudes near it are lifted smoothly.
        clamped: cut magnitudes off at `floor` instead, where the gradient is then zero: for
            metrics.
    """
    if clamped:
        got, target = (energy(x).clamp(min=floor**2).sqrt() for x in (output, reference))
    else:
        got, target = (magnitude(x, floor=floor) for x in (output, reference))
    difference = torch.linalg.vector_norm(got - target, dim=(1, 2))
    convergence = difference / torch.linalg.vector_norm(target, dim=(1, 2))
    return convergence.mean(), (got.log() - target.log()).abs().mean()


def bins_of_pair(
    output: Signal,
    reference: Signal,
    window: Window,
    hop: int,
    *,
    width: int | None = None,
    pad: Literal["constant", "reflect"] = "reflect",
) -> tuple[Bins, Bins]:
    """Return the bins of output and reference, without a gradient for the reference.

    Args:
        output: signals `[n t]`.
        reference: signals `[n t]`.
        window: window `[size]`.
        hop: samples from one frame to the next.
        width: padding on either side in samples; half a window if None.
        pad: kind of padding, as for `padded`.
    """
    width = len(window) // 2 if width is None else width
    bins = stft(padded(output, width, pad), window, hop)
    with torch.no_grad():
        return bins, stft(padded(reference, width, pad), window, hop)


def log_difference(
    output: Bins, reference: Bins, bank: Tensor, *, floor: float, least: float = 1e-6
) -> Scalar:
    """Return the mean absolute difference of natural log-mel magnitudes.

    Args:
        output: bins of the output `[n f bins]`.
        reference: bins of the reference `[n f bins]`.
        bank: mel filters `[bins bands]`.
        floor: least magnitude of a band.
        least: least magnitude of a bin, so small that the sum over a band stays below `floor`.
    """
    with torch.autocast(output.device.type, enabled=False):  # bf16 would lose the quiet bands
        got, target = (
            (magnitude(x, floor=least) @ bank).clamp(min=floor).log() for x in (output, reference)
        )
    return (got - target).abs().mean()


class _Stft(torch.autograd.Function):
    """Short-time Fourier transform whose gradient is computed by real transforms."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, window: Tensor, hop: int) -> Tensor:
        ctx.save_for_backward(window)
        ctx.hop = hop
        ctx.samples = x.shape[1]
        return torch.fft.rfft(x.unfold(1, len(window), hop) * window)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = slopes
        # The adjoint of rfft is irfft but for the bins that irfft counts twice, and its scale.
        (window,), hop = ctx.saved_tensors, ctx.hop
        size, (n, f, bins) = len(window), slope.shape
        once = torch.full((bins,), 0.5, device=slope.device)
        once[0] = 1.0
        once[(size + 1) // 2 :] = 1.0  # the last bin, where size is even
        frames = torch.fft.irfft(slope * once, n=size, norm="forward") * window
        # Overlap-add: frames are cut into hops, and the i-th hops of all frames are added at once.
        hops = -(-size // hop)
        pieces = F.pad(frames, (0, hops * hop - size)).view(n, f, hops, hop)
        total = pieces.new_zeros(n, f + hops - 1, hop)
        for i in range(hops):
            total[:, i : i + f] += pieces[:, :, i]
        total = total.view(n, -1)[:, : ctx.samples]
        return F.pad(total, (0, ctx.samples - total.shape[1])), None, None


class _Energy(torch.autograd.Function):
    """Squared magnitude with a gradient of its own."""

    @staticmethod
    def forward(ctx: Any, bins: Tensor) -> Tensor:
        ctx.save_for_backward(bins)
        real, imaginary = bins.real, bins.imag
        return torch.addcmul(real * real, imaginary, imaginary)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        (slope,), (bins,) = slopes, ctx.saved_tensors
        return bins * (2 * slope)
