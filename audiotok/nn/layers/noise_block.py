"""Noise shaped by the signal, a function of the position: the same on every run and device."""

from __future__ import annotations

import torch
from torch import Tensor

from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.base import Layer, Span, State
from audiotok.nn.layers.conv import Conv

WORD = 0xFFFFFFFF  # mask of 32-bit arithmetic


class NoiseBlock(Layer):
    """Noise injection x + gain * noise * conv1x1(x), one normal number per step for all features.

    The published block draws new noise on every call, and so decodes the same codes to a different
    waveform each time. Here the number is a function of the position in the recording and of
    `seed`: decoding is repeatable, and the same whole, in pieces, alone or in a batch. In training
    the noise is random.

    Args:
        features: width of input and output.
        seed: seed of the noise.
        gain: gain of the noise; 0 turns it off.

    Source: Siuzdak et al. 2024, arXiv:2410.14411, section 3.2 (SNAC).
    """

    def __init__(self, features: int, *, seed: int = 0, gain: float = 1.0) -> None:
        super().__init__()
        self.seed = seed
        self.gain = gain
        self.conv = Conv(features, features, 1, bias=False)

    def start(self, batch: int) -> State:
        """See `Layer.start`; the number of steps so far."""
        return torch.zeros(batch, dtype=torch.int64, device=self.conv.conv.weight.device)

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Layer.step`."""
        after = state + x.shape[2]
        if not self.gain or not x.shape[2]:
            return x, after
        if self.training:
            noise = torch.randn_like(x[:, :1])
        else:
            positions = state[:, None] + torch.arange(x.shape[2], device=x.device)
            noise = normal(positions, self.seed)[:, None].to(x.dtype)
        return x + self.gain * noise * self.conv(x), after

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; each output depends on its own input only."""
        return first, last


def normal(positions: Tensor, seed: int) -> Tensor:
    """Return a standard normal number for each integer, by the Box-Muller transform."""
    one, other = (_bits(2 * positions + i, seed) >> 8 for i in range(2))
    radius = (-2 * ((one + 1) / 2**24).log()).sqrt()
    return radius * (2 * torch.pi * other / 2**24).cos()


def _bits(x: Tensor, seed: int) -> Tensor:
    """Return 32 pseudo-random bits for each integer."""
    return _mixed((_mixed(x & WORD) + seed * 0x9E3779B9) & WORD)


def _mixed(x: Tensor) -> Tensor:
    """Hash 32-bit words by a bijection (C. Wellons' lowbias32).

    Products overflow at 64 bits, which does not affect the lower 32.
    """
    x = (x ^ (x >> 16)) * 0x7FEB352D & WORD
    x = (x ^ (x >> 15)) * 0x846CA68B & WORD
    return x ^ (x >> 16)
