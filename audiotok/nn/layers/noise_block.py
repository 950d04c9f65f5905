"""Noise that the signal itself shapes, drawn by position: the same on every run, device and cut."""

from __future__ import annotations

import torch
from torch import Tensor

from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.base import Layer, Span, State
from audiotok.nn.layers.conv import Conv

WORD = 0xFFFFFFFF  # arithmetic is modulo 2**32


class NoiseBlock(Layer):
    """x + gain * noise * conv1x1(x): one normal number a step, for all features.

    The published block draws anew on every call, and so decodes the same codes to another waveform
    each time. Here the number is a function of the step's place in the recording and of `seed`:
    decoding is repeatable, and the same whole, in pieces, alone or in a batch. Training draws.

    Args:
        features: width of input and output.
        seed: another one gives other noise.
        gain: of the noise; 0 turns it off.

    Source: Siuzdak et al. 2024, arXiv:2410.14411, section 3.2 (SNAC).
    """

    def __init__(self, features: int, *, seed: int = 0, gain: float = 1.0) -> None:
        super().__init__()
        self.seed, self.gain = seed, gain
        self.conv = Conv(features, features, 1, bias=False)

    def start(self, batch: int) -> State:
        """Steps so far."""
        return torch.zeros(batch, dtype=torch.int64, device=self.conv.conv.weight.device)

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """Add the noise of these steps."""
        after = state + x.shape[2]
        if not self.gain or not x.shape[2]:
            return x, after
        if self.training:
            noise = torch.randn_like(x[:, :1])
        else:
            at = state[:, None] + torch.arange(x.shape[2], device=x.device)
            noise = normal(at, self.seed)[:, None].to(x.dtype)
        return x + self.gain * noise * self.conv(x), after

    def reach(self, first: int, last: int) -> Span:
        """Each output from its own input alone."""
        return first, last


def normal(at: Tensor, seed: int) -> Tensor:
    """A standard normal number for each integer, by Box and Muller's transform."""
    one, other = (_bits(2 * at + i, seed) >> 8 for i in range(2))
    radius = (-2 * ((one + 1) / 2**24).log()).sqrt()
    return radius * (2 * torch.pi * other / 2**24).cos()


def _bits(x: Tensor, seed: int) -> Tensor:
    """32 bits that look random, for each integer."""
    return _mixed((_mixed(x & WORD) + seed * 0x9E3779B9) & WORD)


def _mixed(x: Tensor) -> Tensor:
    """A bijection of 32-bit words that spreads every bit over all (C. Wellons' lowbias32).

    Products wrap around at 64 bits, which leaves the lower 32 as they are.
    """
    x = (x ^ (x >> 16)) * 0x7FEB352D & WORD
    x = (x ^ (x >> 15)) * 0x846CA68B & WORD
    return x ^ (x >> 16)
