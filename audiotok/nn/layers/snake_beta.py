"""SnakeBeta: Snake whose amplitude is learnt apart from its frequency, both as logarithms."""

from __future__ import annotations

import torch
from torch import nn

from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.base import Layer, Span, State
from audiotok.nn.layers.snake import snake


class SnakeBeta(Layer):
    """Activation x + sin²(exp(α) x) / exp(β) with one learnt α and β per feature, `[features]`.

    Source: Lee et al. 2023, arXiv:2206.04658 (BigVGAN), whose code has this variant of Snake (Ziyin
    et al. 2020, arXiv:2006.08195), with the same guard against a division by zero.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(features))
        self.beta = nn.Parameter(torch.zeros(features))

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Layer.step`; there is no state."""
        frequency, gain = self.alpha.exp(), 1 / (self.beta.exp() + 1e-9)
        return snake(x, frequency[None, :, None], gain[None, :, None]), None

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; each output depends on its own input only."""
        return first, last
