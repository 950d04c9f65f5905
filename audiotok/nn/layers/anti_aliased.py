"""Activation at twice the rate, so that the overtones that it makes do not fold back (BigVGAN)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.base import Layer, Span, State

TAPS = 12  # of both filters, at twice the rate
SIDE = TAPS // 4  # steps before and after, at the rate of the input


class AntiAliased(Layer):
    """Doubling of the rate, an activation of every step, and halving of the rate `[b d t]`.

    Both filters are low-pass, of 12 taps. Before the start and after the end the first and the last
    step repeat, of the input and of what is activated.

        input       x0          x1          x2
        activated   e0    o0    e1    o1    e2    of 6 inputs a pair: e, and o before it
        output      y0          y1          y2    of 6 pairs in a row

    Args:
        features: width of input and output.
        activation: function that creates an activation of a given width.

    Source: Lee et al. 2023, arXiv:2206.04658, section 3.2, whose filters are those of StyleGAN3
    (Karras et al. 2021, arXiv:2106.12423).
    """

    causal = False
    even: Tensor
    odd: Tensor

    def __init__(self, features: int, *, activation: Callable[[int], Layer]) -> None:
        super().__init__()
        self.activation = activation(features)
        taps = kaiser_taps()
        for name, own in (("even", taps[0::2]), ("odd", taps[1::2])):
            weight = own.expand(features, 1, 1, 2 * SIDE).contiguous()
            self.register_buffer(name, weight, persistent=False)

    def start(self, batch: int) -> State:
        """See `Layer.start`; inputs and pairs that further outputs depend on, none at first."""
        nothing = self.even.new_zeros(batch, len(self.even), 0)
        return nothing, nothing, nothing

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Layer.step`."""
        inputs, *pairs = state
        if not inputs.shape[2]:
            x = torch.cat([x[:, :, :1]] * SIDE + [x], 2)
        return self._advanced(self.joined(inputs, x), pairs)

    def finish(self, x: Features, state: State) -> Output:
        """See `Layer.finish`; the last input repeats, then what is activated last."""
        y, (inputs, *pairs) = self.step(x, state)
        if not inputs.shape[2]:
            return y
        ends = self.joined(inputs, inputs[:, :, -1:].expand(-1, -1, SIDE))
        odd, even = self._activated(ends)
        even = torch.cat([even[:, :, :-1], odd[:, :, -1:]], 2)  # the last is past the end
        end = [odd[:, :, -1:]] * (SIDE - 1)
        rest = self._filtered(pairs, (torch.cat([odd, *end], 2), torch.cat([even, *end], 2)))[0]
        return torch.cat([y, rest], 2)

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`."""
        return self.finish(x, self.start(len(x)))

    def _advanced(self, inputs: Tensor, pairs: list[Tensor]) -> tuple[Output, State]:
        """Return the outputs that inputs determine, and the state after them."""
        if inputs.shape[2] < 2 * SIDE:
            return inputs[:, :, :0], (inputs, *pairs)
        y, after = self._filtered(pairs, self._activated(inputs))
        return y, (inputs[:, :, 1 - 2 * SIDE :], *after)

    def _activated(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the activated steps at twice the rate, odd and even, of each window of inputs."""
        odd, even = (2 * filtered(inputs, taps) for taps in (self.odd, self.even))
        return self.activation(odd), self.activation(even)

    def _filtered(
        self, before: list[Tensor], pairs: tuple[Tensor, Tensor]
    ) -> tuple[Output, tuple[Tensor, Tensor]]:
        """Return the outputs of further pairs, and the pairs that the next ones depend on."""
        odd, even = pairs
        if not before[0].shape[2]:
            first = even[:, :, :1]  # of the two, the odd one is before the start
            odd = torch.cat([*[first] * SIDE, odd[:, :, 1:]], 2)
            even = torch.cat([*[first] * (SIDE - 1), even], 2)
        odd, even = self.joined(before[0], odd), self.joined(before[1], even)
        kept = odd[:, :, 1 - 2 * SIDE :], even[:, :, 1 - 2 * SIDE :]
        if odd.shape[2] < 2 * SIDE:
            return odd[:, :, :0], kept
        return filtered(odd, self.even) + filtered(even, self.odd), kept

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; the windows of the pairs of an output."""
        return first - 2 * SIDE + 1, last + 2 * SIDE - 1


def filtered(x: Tensor, taps: Tensor) -> Tensor:
    """Return features `[b d t]` filtered each by itself, `[b d t-k+1]`.

    As an image whose pixels are steps it takes a CPU an eighth of the time.

    Args:
        x: features.
        taps: filter of each, `[d 1 1 k]`.
    """
    image = x[:, :, None].contiguous(memory_format=torch.channels_last)
    return F.conv2d(image, taps.to(x.dtype), groups=len(taps))[:, :, 0]


def kaiser_taps() -> Tensor:
    """Return the taps `[12]` of a windowed sinc that passes the lower half of the band.

    Its transition is 0.6 of that wide (Kaiser's window; his formula for its shape, from the
    attenuation that so many taps reach).
    """
    half = TAPS // 2
    attenuation = 2.285 * (half - 1) * math.pi * (4 * 0.3) + 7.95  # dB
    shape = 0.1102 * (attenuation - 8.7)
    window = torch.kaiser_window(TAPS, beta=shape, periodic=False, dtype=torch.float64)
    taps = window * torch.sinc((torch.arange(TAPS, dtype=torch.float64) - half + 0.5) / 2)
    return (taps / taps.sum()).float()
