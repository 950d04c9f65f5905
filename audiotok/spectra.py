"""Spectra to train by: the short-time Fourier transform with a quick gradient, and mel filters.

A spectral loss is among the costliest parts of a training step on a CPU, and three quarters of it
is the gradient of `torch.stft`: a full complex transform, a generic overlap-add, and sums over an
axis of two. The two functions here that write their own gradient halve the cost of a loss.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any, Literal

import torch
from jaxtyping import Complex, Float
from torch import Tensor
from torch.nn import functional as F

from audiotok import _torchaudio

Signal = Float[Tensor, "n t"]
Padded = Float[Tensor, "n u"]
Bins = Complex[Tensor, "n f bins"]
Window = Float[Tensor, " size"]


def stft(x: Signal, window: Window, hop: int) -> Bins:
    """Bins of frames that are `window` long and `hop` apart; the first begins at sample 0.

    Samples after the last whole frame are left out, and so is padding: `padded` comes before.

    Raises:
        ValueError: `x` is shorter than the window.
    """
    if x.shape[1] < len(window):
        raise ValueError(f"{x.shape[1]} samples are fewer than the {len(window)} of one window")
    return _Stft.apply(x.float(), window, hop)  # type: ignore[return-value]


def energy(bins: Bins) -> Float[Tensor, "n f bins"]:
    """Squared magnitudes, whose gradient is zero at zero."""
    return _Energy.apply(bins)  # type: ignore[return-value]


def magnitude(bins: Bins, *, floor: float = 1e-6) -> Float[Tensor, "n f bins"]:
    """Magnitudes no smaller than `floor`, so that the gradient is finite at silence."""
    return (energy(bins) + floor**2).sqrt()


def padded(x: Signal, width: int, mode: Literal["constant", "reflect"]) -> Padded:
    """`width` samples more on either side: zeros, or the signal mirrored.

    Raises:
        ValueError: too short to mirror.
    """
    if mode == "reflect" and x.shape[1] <= width:
        raise ValueError(f"{x.shape[1]} samples cannot be mirrored by {width}: use longer crops")
    return F.pad(x[:, None], (width, width), mode)[:, 0]


@cache
def hann(size: int, device: torch.device, *, fft: int = 0, gain: float = 1.0) -> Window:
    """A periodic Hann window times `gain`, in the middle of `fft` samples if that is more."""
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
    """Triangular mel filters from 0 Hz to half the rate, for bins of a window of `size`.

    Args:
        rate: Hz.
        size: of the transform, in samples.
        bands: how many.
        device: where they are wanted.
        norm: "slaney" divides each filter by its width in Hz (librosa's default).
        scale: Slaney's mel scale, linear below 1 kHz (librosa's default), or HTK's.
    """
    functional = _torchaudio.load().functional
    with warnings.catch_warnings():
        # Some published settings have empty bands, which the losses that use them say.
        warnings.filterwarnings("ignore", "At least one mel filterbank has all zero values")
        bank = functional.melscale_fbanks(
            size // 2 + 1, 0.0, rate / 2, bands, rate, norm=norm, mel_scale=scale
        )
    return bank.to(device)


class _Stft(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, window: Tensor, hop: int) -> Tensor:
        ctx.save_for_backward(window)
        ctx.hop, ctx.samples = hop, x.shape[1]
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
        # Overlap-add: each frame as whole hops, and the hops of one place in all frames at once.
        hops = -(-size // hop)
        pieces = F.pad(frames, (0, hops * hop - size)).view(n, f, hops, hop)
        total = pieces.new_zeros(n, f + hops - 1, hop)
        for i in range(hops):
            total[:, i : i + f] += pieces[:, :, i]
        total = total.view(n, -1)[:, : ctx.samples]
        return F.pad(total, (0, ctx.samples - total.shape[1])), None, None


class _Energy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, bins: Tensor) -> Tensor:
        ctx.save_for_backward(bins)
        real, imaginary = bins.real, bins.imag
        return torch.addcmul(real * real, imaginary, imaginary)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        (slope,), (bins,) = slopes, ctx.saved_tensors
        return bins * (2 * slope)
