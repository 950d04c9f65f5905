"""Log-mel spectra of windows that are centred on the start of each frame, with mirrored ends."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.base import Layer, Span, State
from audiotok.nn.spectrogram import hann


class CentredMel(Layer):
    """Front end from waves `[b 1 t]` to decimal logarithms of mel magnitudes `[b bands f]`.

        samples   mirrored |....hop....|....hop....|....hop....| mirrored
        frame 0   \\______window_____/
        frame 1               \\______window_____/

    A frame begun counts as one. A recording too short to be mirrored is filled up with zeros.

    Args:
        rate: Hz.
        hop: samples per frame.
        window: samples of the Hann window, an even number.
        fft: samples of the transform, in which the window is centred.
        bands: number of filters of Slaney's mel scale, each divided by its width.
        low: lowest frequency in Hz.
        high: highest frequency in Hz.
        floor: least magnitude of a band, and least power of a bin.
    """

    causal = False
    bank: Tensor

    def __init__(
        self,
        *,
        rate: int,
        hop: int,
        window: int,
        fft: int,
        bands: int,
        low: float,
        high: float,
        floor: float = 1e-10,
    ) -> None:
        super().__init__()
        self.consumes = hop
        self.hop = hop
        self.margin = window // 2
        self.fft = fft
        self.floor = floor
        bank = torch.from_numpy(slaney_bank(rate, fft, bands, low, high)).T.contiguous()
        self.register_buffer("bank", bank, persistent=False)

    def start(self, batch: int) -> State:
        """See `Layer.start`; the samples that the next frames need, and whether any frame is done.

        The first frame begins with mirrored samples, so it waits until there are enough of them.
        """
        return self.zeros(batch, 0), torch.zeros(batch, dtype=torch.bool, device=self.bank.device)

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Layer.step`; the frames whose windows are complete."""
        samples, begun = self._joined(x, state)
        if not begun and samples.shape[1] <= self.margin:
            return x.new_zeros(len(x), self.bank.shape[1], 0), (samples, state[1])
        if not begun:
            samples = torch.cat([samples[:, 1 : self.margin + 1].flip(1), samples], 1)
        count = max(0, (samples.shape[1] - 2 * self.margin) // self.hop + 1)
        return self._spectra(samples, count), (
            samples[:, count * self.hop :],
            torch.ones_like(state[1]),
        )

    def finish(self, x: Features, state: State) -> Output:
        """See `Layer.finish`; the frames that end among mirrored samples."""
        samples, begun = self._joined(x, state)
        if not begun:
            count = -(-samples.shape[1] // self.hop)
            samples = F.pad(samples, (0, max(0, self.margin + 1 - samples.shape[1])))
            samples = torch.cat([samples[:, 1 : self.margin + 1].flip(1), samples], 1)
        else:
            count = -(-(samples.shape[1] - self.margin) // self.hop)
        end = samples[:, -self.margin - 1 : -1].flip(1)
        return self._spectra(torch.cat([samples, end], 1), count)

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`."""
        return self.finish(x, self.start(len(x)))

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; the window of each frame."""
        # The first sample of a window counts nothing.
        return first * self.hop - self.margin + 1, last * self.hop + self.margin - 1

    def _joined(self, x: Features, state: Any) -> tuple[Tensor, bool]:
        """Return the samples `[b t]` at hand, and whether the first are mirrored already."""
        return torch.cat([state[0], x[:, 0].float()], 1), bool(state[1].all())

    def _spectra(self, samples: Tensor, count: int) -> Tensor:
        """Return the features `[b bands f]` of the first windows in samples `[b t]`."""
        if not count:
            return samples.new_zeros(len(samples), self.bank.shape[1], 0)
        size = 2 * self.margin
        frames = samples.unfold(1, size, self.hop)[:, :count] * hann(size, samples.device)
        around = (self.fft - size) // 2
        bins = torch.fft.rfft(F.pad(frames, (around, self.fft - size - around)))
        magnitude = (bins.real.square() + bins.imag.square()).clamp(min=self.floor).sqrt()
        return (magnitude @ self.bank).clamp(min=self.floor).log10().transpose(1, 2)


@cache
def slaney_bank(rate: int, fft: int, bands: int, low: float, high: float) -> np.ndarray:
    """Return triangular mel filters `[bands fft//2+1]` as float32, equal to librosa's to the bit.

    `spectrogram.mel_bank` gives the same up to rounding, which decides between equally near codes.

    Args:
        rate: Hz.
        fft: samples of the transform.
        bands: number of filters, spaced by Slaney's scale: linear below 1 kHz.
        low: lowest frequency in Hz.
        high: highest frequency in Hz.
    """
    edges = _hertz(np.linspace(_mel(low), _mel(high), bands + 2))
    widths = np.diff(edges)
    ramps = np.subtract.outer(edges, np.fft.rfftfreq(fft, 1 / rate))
    rising = -ramps[:-2] / widths[:-1, None]
    falling = ramps[2:] / widths[1:, None]
    bank = np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
    bank *= (2.0 / (edges[2:] - edges[:-2]))[:, None]
    return bank


_LINEAR = 200 / 3  # Hz per mel below 1 kHz
_STEP = np.log(6.4) / 27.0  # of the logarithm of the frequency per mel above


def _mel(hertz: float) -> float:
    """Return a frequency on Slaney's scale."""
    return hertz / _LINEAR if hertz < 1000 else 15.0 + np.log(hertz / 1000) / _STEP


def _hertz(mel: np.ndarray) -> np.ndarray:
    """Return the frequencies of mels of Slaney's scale."""
    return np.where(mel >= 15.0, 1000.0 * np.exp(_STEP * (mel - 15.0)), _LINEAR * mel)
