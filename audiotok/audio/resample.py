"""Streaming resampling: piece by piece, with the same samples as for the whole recording.

The filter is torchaudio's windowed sinc with the parameters of librosa's "kaiser_best" (64 zero
crossings, 14.77 Kaiser beta, -3 dB near 0.95 of Nyquist). It is always applied to the same fixed
windows of input, however the input is cut into pieces, so the result is bit-identical:

    zeros   |--------- input ------------------------------ ...
    <width><------- hop -------><width>                window 1 -> hop * new / old samples
                        <width><------- hop -------><width>     window 2
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Float32
from torch import Tensor

from audiotok._platform.errors import InputError
from audiotok.audio import _torchaudio

ZERO_CROSSINGS = 64
ROLLOFF = 0.9475937167399596
BETA = 14.769656459379492
# More taps than these (128 MB while they are computed in float64) mean that the two rates share no
# useful factor: 22254 -> 16000 Hz would need 90 million.
MAX_TAPS = 2**24
# 64 output samples at a time make a matrix product, 10x faster than matrix-vector products.
ROWS = 64


class _Filter(NamedTuple):
    """A polyphase filter for two rates."""

    weight: Tensor  # [rows 1 taps]: `rows` successive output samples from one window of input
    width: int  # input samples by which a window extends past its hop on either side
    hop: int  # input samples per `rows` output samples


@lru_cache(maxsize=8)
def _filter(old: int, new: int) -> _Filter:
    """Return the filter for two rates without a common factor."""
    width = math.ceil(ZERO_CROSSINGS * old / (min(old, new) * ROLLOFF))
    if new * (2 * width + old) > MAX_TAPS:
        raise InputError(
            f"cannot resample by {new}/{old}: the rates share no useful factor; convert the file "
            "first, e.g. with `ffmpeg -i in.wav -ar 16000 out.wav`"
        )
    transform = _torchaudio.load().transforms.Resample(
        old,
        new,
        resampling_method="sinc_interp_kaiser",
        lowpass_filter_width=ZERO_CROSSINGS,
        rolloff=ROLLOFF,
        beta=BETA,
        dtype=torch.float64,  # float32, the default, rounds the phases: -102 dB of noise
    )
    kernel, width = transform.kernel, transform.width
    repeats = max(1, ROWS // new)
    weight = torch.zeros(repeats * new, 1, 2 * width + repeats * old)
    for i in range(repeats):  # the same filters again, each time `old` input samples later
        weight[i * new : (i + 1) * new, :, i * old : i * old + kernel.shape[-1]] = kernel
    return _Filter(weight, width, repeats * old)


class Resampler:
    """Streaming resampler from `old` to `new` Hz, in constant memory.

    `step` takes any number of samples and returns those that are ready; `finish` returns the rest.
    Together they return exactly `ceil(samples * new / old)` samples.

    Args:
        old: input rate in Hz.
        new: output rate in Hz.
        channels: number of channels; each is filtered by itself.
        block: input samples processed at a time, which is the latency of a live stream. Results
            of two values agree to 1e-6; those of one value are bit-identical for any cutting.
        device: the device of the samples.

    Raises:
        ValueError: rates that are not positive, or share no useful common factor.
    """

    def __init__(
        self,
        old: int,
        new: int,
        channels: int = 1,
        *,
        block: int = 131072,
        device: torch.device | str = "cpu",
    ):
        if old < 1 or new < 1 or channels < 1 or block < 1:
            raise InputError(f"cannot resample {channels} channels from {old} Hz to {new} Hz")
        common = math.gcd(old, new)
        self.old = old // common
        self.new = new // common
        self.channels = channels
        self._consumed = 0  # input samples
        self._produced = 0  # output samples
        self._buffered = 0  # input samples in `_pieces`
        self._pieces: list[Tensor] = []
        self._finished = False
        self._empty = torch.zeros(channels, 0, device=device)
        if self.old == self.new:
            return
        filt = _filter(self.old, self.new)
        self._weight = filt.weight.to(device)
        self._hop = filt.hop
        self._block = max(1, block // filt.hop) * filt.hop
        self._window = self._block + 2 * filt.width
        self._append(self._empty.new_zeros(channels, filt.width))

    def step(self, piece: Float32[Tensor, "c t"]) -> Float32[Tensor, "c out"]:
        """Take the next samples; return those that are ready, often none."""
        if self._finished:
            raise InputError("this Resampler is finished; start a new one for the next recording")
        if piece.shape[0] != self.channels:
            raise InputError(f"{piece.shape[0]} channels came, {self.channels} were expected")
        self._consumed += piece.shape[1]
        if self.old == self.new:
            self._produced = self._consumed
            return piece
        self._append(piece)
        return self._run()

    def finish(self) -> Float32[Tensor, "c out"]:
        """Return the samples that waited for later input, which is taken to be silence."""
        lacking = -(-self._consumed * self.new // self.old) - self._produced
        self._finished = True
        if lacking <= 0:
            return self._empty
        blocks = math.ceil(lacking * self.old / (self._block * self.new))
        zeros = (blocks - 1) * self._block + self._window - self._buffered
        self._append(self._empty.new_zeros(self.channels, max(0, zeros)))
        return self._run()[:, :lacking]

    def _append(self, piece: Tensor) -> None:
        self._pieces.append(piece)
        self._buffered += piece.shape[1]

    def _run(self) -> Tensor:
        """Filter all complete windows in the buffer, and drop the input that is done with."""
        if self._buffered < self._window:
            return self._empty
        waiting = torch.cat(self._pieces, 1)
        outputs: list[Tensor] = []
        at = 0
        while waiting.shape[1] - at >= self._window:
            outputs.append(self._convolve(waiting[:, at : at + self._window]))
            at += self._block
        rest = waiting[:, at:].clone()  # a view would keep all of `waiting` alive
        self._pieces = [rest]
        self._buffered = rest.shape[1]
        out = torch.cat(outputs, 1)
        self._produced += out.shape[1]
        return out

    def _convolve(self, window: Tensor) -> Tensor:
        """Return the output samples of one window, each channel by itself."""
        with torch.no_grad():
            rows = [
                torch.nn.functional.conv1d(x[None, None], self._weight, stride=self._hop)
                for x in window
            ]
        return torch.stack([r[0].T.reshape(-1) for r in rows])
