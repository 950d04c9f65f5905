"""SnakeBeta: Snake whose amplitude is learnt apart from its frequency, both as logarithms."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.base import Activation
from audiotok.nn.layers.snake import snake


class SnakeBeta(Activation):
    """Activation x + sin²(exp(α) x) / exp(β) with one learnt α and β per feature, `[features]`.

    Source: Lee et al. 2023, arXiv:2206.04658 (BigVGAN), whose code has this variant of Snake (Ziyin
    et al. 2020, arXiv:2006.08195), with the same guard against a division by zero.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(features))
        self.beta = nn.Parameter(torch.zeros(features))

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`."""
        return snake(x, *self._shape())

    def write(self, x: Tensor, out: Tensor) -> None:
        """See `Activation.write`."""
        snake(x, *self._shape(), out)

    def _shape(self) -> tuple[Tensor, Tensor]:
        """Return frequency and gain of each feature, `[1 d 1]`."""
        gain = 1 / (self.beta.exp() + 1e-9)
        return self.alpha.exp()[None, :, None], gain[None, :, None]
