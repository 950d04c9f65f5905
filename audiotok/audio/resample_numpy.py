"""Resampling with numpy alone, for where torch is not installed; the samples of `resample` to 1e-6.

The filter is the same: a windowed sinc of 64 zero crossings, Kaiser's window with beta 14.77, -3 dB
near 0.95 of Nyquist. Work is done on fixed windows of input, so the result is the same to the bit
for any cutting.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

ZERO_CROSSINGS = 64
ROLLOFF = 0.9475937167399596
BETA = 14.769656459379492
MAX_TAPS = 2**24  # past it two rates share no useful factor
ROWS = 64  # output samples of a window, for a matrix product and not a vector's


@lru_cache(maxsize=8)
def _filter(old: int, new: int) -> tuple[np.ndarray, int, int]:
    """Of two rates without a common factor: weights `[taps rows]`, each column an output sample of
    one window of input; how far a window reaches past its hop on either side; the hop."""
    base = min(old, new) * ROLLOFF
    width = math.ceil(ZERO_CROSSINGS * old / base)
    if new * (2 * width + old) > MAX_TAPS:
        raise ValueError(
            f"cannot resample by {new}/{old}: the rates share no useful factor; convert the file "
            "first, e.g. with `ffmpeg -i in.wav -ar 16000 out.wav`"
        )
    at = np.arange(-width, width + old) / old - np.arange(new)[:, None] / new
    at = np.clip(at * base, -ZERO_CROSSINGS, ZERO_CROSSINGS)
    window = np.i0(BETA * np.sqrt(1 - (at / ZERO_CROSSINGS) ** 2)) / np.i0(BETA)
    kernel = np.sinc(at) * window * base / old
    repeats = max(1, ROWS // new)
    weight = np.zeros((repeats * new, 2 * width + repeats * old), np.float32)
    for i in range(repeats):  # the same filters again, each time `old` input samples later
        weight[i * new : (i + 1) * new, i * old : i * old + kernel.shape[1]] = kernel
    return np.ascontiguousarray(weight.T), width, repeats * old


class Resampler:
    """Audio at `old` Hz into audio at `new` Hz, piece by piece, in constant memory.

    `step` takes any number of samples `[c t]` and gives those that are ready; `finish` gives the
    rest: together exactly `ceil(samples * new / old)`.

    Raises:
        ValueError: rates that are not positive, or share no useful common factor.
    """

    def __init__(self, old: int, new: int, channels: int = 1, *, block: int = 131072) -> None:
        if old < 1 or new < 1 or channels < 1 or block < 1:
            raise ValueError(f"cannot resample {channels} channels from {old} Hz to {new} Hz")
        self.old, self.new = old // math.gcd(old, new), new // math.gcd(old, new)
        self._weight, self._width, self._hop = _filter(self.old, self.new)
        self._block = max(1, block // self._hop) * self._hop
        self._window = self._block + 2 * self._width
        self._held = np.zeros((channels, self._width), np.float32)
        self._taken = self._made = 0

    def step(self, piece: np.ndarray) -> np.ndarray:
        """The next samples in; those that are ready out (often none)."""
        self._taken += piece.shape[1]
        return self._run(piece)

    def finish(self) -> np.ndarray:
        """The samples that were still waiting for what comes after them (silence, it turns out)."""
        lacking = -(-self._taken * self.new // self.old) - self._made
        if lacking <= 0:
            return self._held[:, :0]
        blocks = math.ceil(lacking * self.old / (self._block * self.new))
        zeros = (blocks - 1) * self._block + self._window - self._held.shape[1]
        return self._run(np.zeros((len(self._held), max(0, zeros)), np.float32))[:, :lacking]

    def _run(self, piece: np.ndarray) -> np.ndarray:
        held = np.concatenate([self._held, piece], 1)
        count = max(0, (held.shape[1] - self._window) // self._block + 1)
        made = [self._convolved(held[:, i * self._block :]) for i in range(count)]
        self._held = held[:, count * self._block :]
        out = np.concatenate([held[:, :0], *made], 1)
        self._made += out.shape[1]
        return out

    def _convolved(self, x: np.ndarray) -> np.ndarray:
        taps = len(self._weight)
        rows = np.lib.stride_tricks.sliding_window_view(x[:, : self._window], taps, 1)
        return (rows[:, :: self._hop] @ self._weight).reshape(len(x), -1)
