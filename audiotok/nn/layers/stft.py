"""Fourier transforms between waves and spectra: front end and head of codecs at frame rate.

    samples   |....hop....|....hop....|....hop....|
    frame i-1 \\________window________/
    frame i               \\________window________/

Both are causal. A frame is complete with its last sample; block i of the head is the sum of frames
i-1 and i, so it lies one hop before the end of the window of frame i.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.base import Layer, Span, State


def _sine_window(size: int) -> Tensor:
    """Return the root of a periodic Hann window, whose squares add up to 1 at half overlap."""
    return torch.sin(math.pi * (torch.arange(size, dtype=torch.float64) + 0.5) / size).float()


class Stft(Layer):
    """Front end from waves `[b 1 t]` to compressed spectra `[b 3*(hop+1) f]`.

    The output is magnitude, real and imaginary part of X |X|^(power - 1): loudness is compressed,
    so that quiet frames are as visible to the first layer as loud ones. The magnitude is redundant
    but no linear function of the other two: without it a codec learns ten times as slowly.

    Args:
        hop: samples per frame; the window is two hops long.
        power: exponent of the compression.
        floor: constant whose square is added to squared magnitudes before compression.
    """

    window: Tensor

    def __init__(self, hop: int, *, power: float = 0.3, floor: float = 1e-3) -> None:
        super().__init__()
        self.consumes = hop
        self.hop = hop
        self.power = power
        self.floor = floor
        self.register_buffer("window", _sine_window(2 * hop), persistent=False)

    def start(self, batch: int) -> State:
        """See `Layer.start`; the last hop of samples."""
        return self.zeros(batch, self.hop)

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Layer.step`."""
        self.refuse_partial(x)
        if not x.shape[2]:
            return x.new_zeros(len(x), 3 * (self.hop + 1), 0), state
        samples = torch.cat([state, x[:, 0]], 1)
        frames = samples.unfold(1, 2 * self.hop, self.hop) * self.window
        real, imaginary = torch.view_as_real(torch.fft.rfft(frames.float())).unbind(3)
        power = real.square() + imaginary.square() + self.floor**2
        gain = power.pow((self.power - 1) / 2)
        real, imaginary = real * gain, imaginary * gain
        # The gradient of a root is not finite at zero.
        magnitude = (real.square() + imaginary.square() + 1e-4).sqrt()
        y = torch.cat([magnitude, real, imaginary], 2)
        return y.to(x.dtype).transpose(1, 2), samples[:, -self.hop :]

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; the hop of each frame and the hop before it."""
        return (first - 1) * self.hop, (last + 1) * self.hop - 1


class Istft(Layer):
    """Head from log gains and phase vectors `[b 3*(hop+1) f]` to waves `[b 1 f*hop]`.

    A bin is exp(gain) * (real + i imaginary): the gain covers the whole range of loudness; the
    vector gives the phase, and is short where the phase is uncertain.

    Args:
        hop: samples per frame; the window is two hops long.
        loudest: upper limit of the log gain.
    """

    window: Tensor

    def __init__(self, hop: int, *, loudest: float = 5.0) -> None:
        super().__init__()
        self.produces = hop
        self.hop = hop
        self.loudest = loudest
        self.register_buffer("window", _sine_window(2 * hop), persistent=False)

    def start(self, batch: int) -> State:
        """See `Layer.start`; the second half of the last frame, which overlaps the next."""
        return self.zeros(batch, self.hop)

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Layer.step`."""
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
        """Return the first half of the hop after the last frame, `[b 1 hop//2]`.

        No frame overlaps it any more, so it is divided by the squared window, which is at least
        0.5 there.
        """
        half = self.hop // 2
        window = self.window[self.hop : self.hop + half]
        return (state[:, :half] / window.square())[:, None]

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; the frame of each sample and the frame before it."""
        return first // self.hop - 1, last // self.hop
