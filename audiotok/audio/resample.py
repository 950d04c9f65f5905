"""Resamples a stream of audio a piece at a time, with the same samples as resampling it whole.

The filter is torchaudio's windowed sinc with the parameters of librosa's "kaiser_best" (64 zero
crossings, 14.77 Kaiser beta, -3 dB near 0.95 of Nyquist). Work is always done on the same fixed
windows of input, however the signal is cut on its way in, so the result is bit-identical:

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

from audiotok.audio import _torchaudio

ZERO_CROSSINGS = 64
ROLLOFF = 0.9475937167399596
BETA = 14.769656459379492
# Past this many taps (128 MB while they are computed in float64) the two rates share no useful
# factor: 22254 -> 16000 Hz would need 90 million.
MAX_TAPS = 2**24
# One output sample a step makes a matrix-vector product; 64 make a matrix product, 10x faster.
ROWS = 64


class _Filter(NamedTuple):
    weight: Tensor  # [rows 1 taps]: `rows` successive output samples from one window of input
    width: int  # input samples a window reaches past its hop on either side
    hop: int  # input samples per `rows` output samples


@lru_cache(maxsize=8)
def _filter(old: int, new: int) -> _Filter:
    """The filter for two rates without a common factor."""
    width = math.ceil(ZERO_CROSSINGS * old / (min(old, new) * ROLLOFF))
    if new * (2 * width + old) > MAX_TAPS:
        raise ValueError(
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
        dtype=torch.float64,  # by default it rounds the phases to float32: -102 dB of noise
    )
    kernel, width = transform.kernel, transform.width
    repeats = max(1, ROWS // new)
    weight = torch.zeros(repeats * new, 1, 2 * width + repeats * old)
    for i in range(repeats):  # the same filters again, each time `old` input samples later
        weight[i * new : (i + 1) * new, :, i * old : i * old + kernel.shape[-1]] = kernel
    return _Filter(weight, width, repeats * old)


class Resampler:
    """Turns audio at `old` Hz into audio at `new` Hz, piece by piece, in constant memory.

    `step` takes any number of samples and gives those that are ready; `finish` gives the rest.
    Together they give exactly `ceil(samples * new / old)` samples.

    Args:
        old: rate of what goes in, Hz.
        new: rate of what comes out, Hz.
        channels: of both; each is filtered alone, so it does not depend on the others.
        block: input samples worked on at a time. It is the delay of a live stream; results for
            two values agree to 1e-6, for one value they are bit-identical for any cutting.
        device: where the samples are.

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
            raise ValueError(f"cannot resample {channels} channels from {old} Hz to {new} Hz")
        self.old, self.new = old // math.gcd(old, new), new // math.gcd(old, new)
        self.channels = channels
        self._taken = self._made = self._held = 0
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
        self._hold(self._empty.new_zeros(channels, filt.width))

    def step(self, piece: Float32[Tensor, "c t"]) -> Float32[Tensor, "c out"]:
        """The next samples in; those that are ready out (often none)."""
        if self._finished:
            raise ValueError("this Resampler is finished; start a new one for the next recording")
        if piece.shape[0] != self.channels:
            raise ValueError(f"{piece.shape[0]} channels came, {self.channels} were expected")
        self._taken += piece.shape[1]
        if self.old == self.new:
            self._made = self._taken
            return piece
        self._hold(piece)
        return self._run()

    def finish(self) -> Float32[Tensor, "c out"]:
        """The samples that were still waiting for what comes after them (silence, it turns out)."""
        lacking = -(-self._taken * self.new // self.old) - self._made
        self._finished = True
        if lacking <= 0:
            return self._empty
        blocks = math.ceil(lacking * self.old / (self._block * self.new))
        zeros = (blocks - 1) * self._block + self._window - self._held
        self._hold(self._empty.new_zeros(self.channels, max(0, zeros)))
        return self._run()[:, :lacking]

    def _hold(self, piece: Tensor) -> None:
        self._pieces.append(piece)
        self._held += piece.shape[1]

    def _run(self) -> Tensor:
        if self._held < self._window:
            return self._empty
        waiting = torch.cat(self._pieces, 1)
        made: list[Tensor] = []
        at = 0
        while waiting.shape[1] - at >= self._window:
            made.append(self._convolve(waiting[:, at : at + self._window]))
            at += self._block
        rest = waiting[:, at:].clone()  # a view would keep all of `waiting` alive
        self._pieces, self._held = [rest], rest.shape[1]
        out = torch.cat(made, 1)
        self._made += out.shape[1]
        return out

    def _convolve(self, window: Tensor) -> Tensor:
        with torch.no_grad():
            rows = [
                torch.nn.functional.conv1d(x[None, None], self._weight, stride=self._hop)
                for x in window
            ]
        return torch.stack([r[0].T.reshape(-1) for r in rows])
