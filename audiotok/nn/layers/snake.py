"""Snake: a periodic activation with a learnt frequency, suited to audio."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.base import Activation
from audiotok.nn.onednn import computes

PIECE = 1 << 17  # numbers computed at once, half a MB: what is between them stays in a CPU's cache


def snake(x: Tensor, frequency: Tensor, gain: Tensor, out: Tensor | None = None) -> Tensor:
    """Return x + gain sin²(frequency x).

    Args:
        x: features `[b d t]`.
        frequency: `[1 d 1]`.
        gain: `[1 d 1]`.
        out: where it is written; elsewhere if None.
    """
    if not computes(x, frequency):
        sine = torch.sin(frequency * x)
        return torch.addcmul(x, sine, sine * gain)
    out = torch.empty_like(x) if out is None else out
    steps = max(1, PIECE // max(1, x.shape[0] * x.shape[1]))
    for piece, part in zip(x.split(steps, 2), out.split(steps, 2), strict=True):
        sine = torch.mul(frequency, piece).sin_()
        torch.addcmul(piece, sine, sine * gain, out=part)
    return out


class Snake(Activation):
    """Activation x + sin²(αx) / α with one learnt α per feature, `[1 features 1]`.

    Source: Ziyin et al. 2020, arXiv:2006.08195; per feature as in DAC (Kumar et al. 2023,
    arXiv:2306.06546, section 3.1), with the same guard against α = 0.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, features, 1))

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`."""
        return snake(x, self.alpha, 1 / (self.alpha + 1e-9))

    def write(self, x: Tensor, out: Tensor) -> None:
        """See `Activation.write`."""
        snake(x, self.alpha, 1 / (self.alpha + 1e-9), out)
