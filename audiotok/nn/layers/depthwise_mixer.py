"""Residual depthwise convolution, of which a perceptron makes a block of VibeVoice's networks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.base import Layer, Span, State
from audiotok.nn.layers.depthwise import Depthwise


class DepthwiseMixer(Layer):
    """Causal branch x + scale * depthwise(norm(x)) `[b d t]`, which mixes steps, not features.

    With a `FeedForward` after it, it is a block of VibeVoice's tokenizers (Peng et al. 2025,
    arXiv:2508.19205).

    Args:
        features: width of input and output.
        kernel: taps of the convolution.
        scale: initial value of the learnt per-feature gain on the branch.
        norm: function that creates the normalisation of a given width, features last.
    """

    def __init__(
        self,
        features: int,
        *,
        kernel: int = 7,
        scale: float = 0.1,
        norm: Callable[[int], nn.Module] = nn.LayerNorm,
    ) -> None:
        super().__init__()
        self.norm = norm(features)
        self.depthwise = Depthwise(features, kernel)
        self.scale = nn.Parameter(torch.full((features,), scale))

    def start(self, batch: int) -> State:
        """See `Layer.start`; the state of the convolution."""
        return self.depthwise.start(batch)

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Layer.step`."""
        y, state = self.depthwise.step(self.norm(x.transpose(1, 2)).transpose(1, 2), state)
        return x + self.scale[:, None] * y, state

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; the span of the convolution."""
        return self.depthwise.input_span(first, last)
