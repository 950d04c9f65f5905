"""Snake: a periodic activation with a learnt frequency, suited to audio."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.base import Layer, Span, State
from audiotok.nn.onednn import computes

PIECE = 1 << 17  # numbers computed at once, half a MB: what is between them stays in a CPU's cache


def snake(x: Tensor, frequency: Tensor, gain: Tensor) -> Tensor:
    """Return x + gain sin²(frequency x).

    Args:
        x: features `[b d t]`.
        frequency: `[1 d 1]`.
        gain: `[1 d 1]`.
    """
    if x.numel() <= PIECE or not computes(x, frequency):
        sine = torch.sin(frequency * x)
        return torch.addcmul(x, sine, sine * gain)
    y, steps = torch.empty_like(x), max(1, PIECE // (x.shape[0] * x.shape[1]))
    for piece, out in zip(x.split(steps, 2), y.split(steps, 2), strict=True):
        sine = torch.mul(frequency, piece).sin_()
        torch.addcmul(piece, sine, sine * gain, out=out)
    return y


class Snake(Layer):
    """Activation x + sin²(αx) / α with one learnt α per feature, `[1 features 1]`.

    Source: Ziyin et al. 2020, arXiv:2006.08195; per feature as in DAC (Kumar et al. 2023,
    arXiv:2306.06546, section 3.1), with the same guard against α = 0.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, features, 1))

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Layer.step`; there is no state."""
        return snake(x, self.alpha, 1 / (self.alpha + 1e-9)), None

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; each output depends on its own input only."""
        return first, last
