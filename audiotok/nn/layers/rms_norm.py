"""Normalisation of each step by the root of its mean square, without mean and bias."""

from __future__ import annotations

from torch import nn

from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.base import Layer, Span, State


class RmsNorm(Layer):
    """Normalisation over the features of each step `[b d t]`, with a learnt gain per feature.

    Args:
        features: width d.
        affine: whether there is a gain.
        eps: added to the mean square.

    Source: Zhang & Sennrich 2019, arXiv:1910.07467.
    """

    def __init__(self, features: int, *, affine: bool = True, eps: float = 1e-5) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(features, eps, affine)

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Layer.step`; there is no state."""
        return self.norm(x.transpose(1, 2)).transpose(1, 2), None

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; each output depends on its own input only."""
        return first, last
