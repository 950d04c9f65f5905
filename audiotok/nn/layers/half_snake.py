"""Half Snake: Snake for the first half of the features, and a leaky ReLU for the others."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.base import Layer, Span, State
from audiotok.nn.layers.snake import Snake


class HalfSnake(Layer):
    """Activation of features `[b d t]`: the first d // 2 by Snake, the others by a leaky ReLU.

    Source: Casanova et al. 2025, arXiv:2508.05835 (NanoCodec).
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.middle = features // 2
        self.snake = Snake(self.middle)

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Layer.step`; there is no state."""
        first, _ = self.snake.step(x[:, : self.middle], None)
        # Over all features, which are contiguous in memory, and many times as fast as over half.
        return torch.slice_scatter(F.leaky_relu(x), first, 1, 0, self.middle), None

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; each output depends on its own input only."""
        return first, last
