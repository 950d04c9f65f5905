"""Streaming resampling in numpy, as all audio on a CPU is resampled; `resample` is for tensors.

Both agree to 1e-6. The filter is the same: a windowed sinc of 64 zero crossings, Kaiser's window
with beta 14.77, -3 dB near 0.95 of Nyquist. It is applied to fixed windows of input, so the result
is bit-identical for any cutting.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from audiotok._platform.errors import InputError

ZERO_CROSSINGS = 64
ROLLOFF = 0.9475937167399596
BETA = 14.769656459379492
MAX_TAPS = 2**24  # more than these mean that the two rates share no useful factor
ROWS = 64  # output samples a window, at least: a matrix product is faster than a vector's
# OpenBLAS computes a product of at most 2**18 multiplications in one thread. A larger one it shares
# out among those that it has, which changes the last bits: samples would depend on the machine.
ONE_THREAD = 200_000
COLUMNS = 16  # of the filter in one product


@lru_cache(maxsize=8)
def _filter(old: int, new: int) -> tuple[np.ndarray, int, int]:
    """Return the filter for two rates without a common factor.

    Returns:
        Weights `[taps rows]`, each column of which gives an output sample of one window of input;
        the input samples by which a window extends past its hop on either side; the hop.
    """
    base = min(old, new) * ROLLOFF
    width = math.ceil(ZERO_CROSSINGS * old / base)
    if new * (2 * width + old) > MAX_TAPS:
        raise InputError(
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


class NumpyResampler:
    """Streaming resampler from `old` to `new` Hz, in constant memory.

    `step` takes any number of samples `[c t]` and returns those that are ready; `finish` returns
    the rest: together exactly `ceil(samples * new / old)`.

    Args:
        old: input rate in Hz.
        new: output rate in Hz.
        channels: number of channels.
        block: input samples processed at a time.

    Raises:
        ValueError: rates that are not positive, or share no useful common factor.
    """

    def __init__(self, old: int, new: int, channels: int = 1, *, block: int = 131072) -> None:
        if old < 1 or new < 1 or channels < 1 or block < 1:
            raise InputError(f"cannot resample {channels} channels from {old} Hz to {new} Hz")
        common = math.gcd(old, new)
        self.old = old // common
        self.new = new // common
        self._buffer = np.zeros((channels, 0), np.float32)
        if self.old == self.new:
            return
        weight, width, hop = _filter(self.old, self.new)
        self._weight = weight
        parts = range(0, weight.shape[1], COLUMNS)
        self._parts = [np.ascontiguousarray(weight[:, i : i + COLUMNS]) for i in parts]
        self._hop = hop
        self._block = max(1, block // hop) * hop
        self._window = self._block + 2 * width
        self._buffer = np.zeros((channels, width), np.float32)
        self._consumed = 0  # input samples
        self._produced = 0  # output samples

    def step(self, piece: np.ndarray) -> np.ndarray:
        """Take the next samples `[c t]`; return those that are ready, often none."""
        if self.old == self.new:
            return piece
        self._consumed += piece.shape[1]
        return self._run(piece)

    def finish(self) -> np.ndarray:
        """Return the samples that waited for later input, which is taken to be silence."""
        if self.old == self.new:
            return self._buffer
        lacking = -(-self._consumed * self.new // self.old) - self._produced
        if lacking <= 0:
            return self._buffer[:, :0]
        blocks = math.ceil(lacking * self.old / (self._block * self.new))
        zeros = (blocks - 1) * self._block + self._window - self._buffer.shape[1]
        return self._run(np.zeros((len(self._buffer), max(0, zeros)), np.float32))[:, :lacking]

    def _run(self, piece: np.ndarray) -> np.ndarray:
        """Return the output of all complete windows of the buffer and a piece."""
        samples = np.concatenate([self._buffer, piece], 1)
        count = max(0, (samples.shape[1] - self._window) // self._block + 1)
        outputs = [self._convolved(samples[:, i * self._block :]) for i in range(count)]
        self._buffer = samples[:, count * self._block :].copy()  # a view keeps all of it alive
        out = np.concatenate([samples[:, :0], *outputs], 1)
        self._produced += out.shape[1]
        return out

    def _convolved(self, x: np.ndarray) -> np.ndarray:
        """Return the output samples of the window at the start of `x`."""
        taps, width = self._weight.shape
        rows = np.lib.stride_tricks.sliding_window_view(x[:, : self._window], taps, 1)
        rows = np.ascontiguousarray(rows[:, :: self._hop])
        out = np.empty((*rows.shape[:2], width), np.float32)
        size = max(1, ONE_THREAD // (COLUMNS * taps))
        for c in range(len(rows)):  # each channel by itself, as if it were the only one
            for i in range(0, rows.shape[1], size):
                for j, part in enumerate(self._parts):
                    at = slice(j * COLUMNS, j * COLUMNS + part.shape[1])
                    np.matmul(rows[c, i : i + size], part, out=out[c, i : i + size, at])
        return out.reshape(len(x), -1)
