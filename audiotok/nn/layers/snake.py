"""Snake: a periodic activation with a learnt frequency, suited to audio."""

from __future__ import annotations

import torch
from torch import nn

from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.base import Layer, Span, State


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
        sine = torch.sin(self.alpha * x)
        return torch.addcmul(x, sine, sine / (self.alpha + 1e-9)), None

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; each output depends on its own input only."""
        return first, last
