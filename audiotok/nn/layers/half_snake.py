"""Half Snake: Snake for the first half of the features, and a leaky ReLU for the others."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.base import Activation
from audiotok.nn.layers.snake import Snake


class HalfSnake(Activation):
    """Activation of features `[b d t]`: the first d // 2 by Snake, the others by a leaky ReLU.

    Source: Casanova et al. 2025, arXiv:2508.05835 (NanoCodec).
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.middle = features // 2
        self.snake = Snake(self.middle)

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`."""
        # Over all features, which are contiguous in memory, and many times as fast as over half.
        return torch.slice_scatter(
            F.leaky_relu(x), self.snake(x[:, : self.middle]), 1, 0, self.middle
        )

    def write(self, x: Tensor, out: Tensor) -> None:
        """See `Activation.write`."""
        torch.ops.aten.leaky_relu.out(x, 0.01, out=out)
        self.snake.write(x[:, : self.middle], out[:, : self.middle])
