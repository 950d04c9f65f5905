"""Between waveform and spectrum: the front end and the head of codecs that work at frame rate.

    samples   |....hop....|....hop....|....hop....|
    frame i-1 \\________window________/
    frame i               \\________window________/

Both are causal. A frame is complete with its last sample; the head's block i is what frames i-1
and i give together, so it lies one hop behind the end of frame i's window.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.base import Layer, Span, State


def sine_window(size: int) -> Tensor:
    """Square root of a periodic Hann window: its squares add up to one at half overlap."""
    return torch.sin(math.pi * (torch.arange(size, dtype=torch.float64) + 0.5) / size).float()


class Stft(Layer):
    """Waveform `[b 1 t]` to compressed spectrum `[b 3*(hop+1) f]`, window of two hops.

    Magnitude, real and imaginary part of X |X|^(power - 1): loudness is compressed, so that quiet
    frames are as visible to the first layer as loud ones. The magnitude says nothing new, but it
    is no linear function of the other two: without it a codec learns ten times as slowly.
    """

    window: Tensor

    def __init__(self, hop: int, *, power: float = 0.3, floor: float = 1e-3) -> None:
        super().__init__()
        self.consumes, self.hop, self.power, self.floor = hop, hop, power, floor
        self.register_buffer("window", sine_window(2 * hop), persistent=False)

    def start(self, batch: int) -> State:
        """The hop of samples before the present one."""
        return self.zeros(batch, self.hop)

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """`[b 1 n*hop]` to `[b 3*(hop+1) n]`."""
        self.refuse_partial(x)
        if not x.shape[2]:
            return x.new_zeros(len(x), 3 * (self.hop + 1), 0), state
        samples = torch.cat([state, x[:, 0]], 1)
        frames = samples.unfold(1, 2 * self.hop, self.hop) * self.window
        spectrum = torch.view_as_real(torch.fft.rfft(frames.float()))
        power = spectrum.square().sum(-1, keepdim=True) + self.floor**2
        parts = spectrum * power.pow((self.power - 1) / 2)
        # The slope of a root is not finite at zero.
        magnitude = (parts.square().sum(-1, keepdim=True) + 1e-4).sqrt()
        y = torch.cat([magnitude, parts], 3).transpose(2, 3).flatten(2)
        return y.to(x.dtype).transpose(1, 2), samples[:, -self.hop :]

    def reach(self, first: int, last: int) -> Span:
        """One hop before the frame's own."""
        return (first - 1) * self.hop, (last + 1) * self.hop - 1


class Istft(Layer):
    """Log-gain and phase vector `[b 3*(hop+1) f]` to waveform `[b 1 f*hop]`, window of two hops.

    A bin is exp(gain) * (real + i imaginary): the gain carries loudness over its whole range, the
    vector carries phase, and shrinks where phase is uncertain.
    """

    window: Tensor

    def __init__(self, hop: int, *, loudest: float = 5.0) -> None:
        super().__init__()
        self.produces, self.hop, self.loudest = hop, hop, loudest
        self.register_buffer("window", sine_window(2 * hop), persistent=False)

    def start(self, batch: int) -> State:
        """The second half of the last frame, waiting for its overlap."""
        return self.zeros(batch, self.hop)

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """Overlap and add."""
        b, _, f = x.shape
        if not f:
            return x.new_zeros(b, 1, 0), state
        gain, real, imaginary = x.transpose(1, 2).float().chunk(3, 2)
        gain = gain.clamp(max=self.loudest).exp()
        # irfft ignores the imaginary part at DC and Nyquist.
        frames = torch.fft.irfft(torch.complex(gain * real, gain * imaginary)) * self.window
        first, second = frames.to(x.dtype).chunk(2, 2)
        tails = torch.cat([state[:, None], second], 1)
        return (first + tails[:, :-1]).reshape(b, 1, f * self.hop), tails[:, -1]

    def flush(self, state: State) -> Tensor:
        """The first half of the hop after the last frame, `[b 1 hop//2]`: nothing overlaps it
        any more, so the window is divided out there (it is at least 0.7)."""
        half = self.hop // 2
        window = self.window[self.hop : self.hop + half]
        return (state[:, :half] / window.square())[:, None]

    def reach(self, first: int, last: int) -> Span:
        """The frame and the one before it."""
        return first // self.hop - 1, last // self.hop
