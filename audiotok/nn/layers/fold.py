"""Several steps combined into one of many features, and back, for frames of several latents.

steps    a0 a1 a2 a3 | b0 b1 b2 b3        each of d features
frames   a           | b                  each of 4d: a0's features, then a1's, ...
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.base import Layer, Span, State


class Fold(Layer):
    """Layer from `[b features t]` to `[b steps*features t/steps]`, with zeros added at the end.

    It takes pieces of any length, as the layer before it may lag by any number of steps.
    """

    causal = False

    def __init__(self, features: int, steps: int) -> None:
        super().__init__()
        self.features = features
        self.consumes = steps

    def start(self, batch: int) -> State:
        """See `Layer.start`; the steps of an unfinished frame."""
        return self.zeros(batch, self.features, 0)

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Layer.step`; the complete frames are returned."""
        x = torch.cat([state, x], 2)
        whole = x.shape[2] // self.consumes * self.consumes
        return self.forward(x[:, :, :whole]), x[:, :, whole:]

    def finish(self, x: Features, state: State) -> Output:
        """See `Layer.finish`; the last frame is filled up with zeros."""
        return self.forward(torch.cat([state, x], 2))

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`."""
        return _folded(F.pad(x, (0, -x.shape[2] % self.consumes)), self.consumes)

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; all steps of the frames."""
        return first * self.consumes, (last + 1) * self.consumes - 1


class CausalFold(Layer):
    """Layer from `[b d n*steps]` to `[b steps*d n]`, which takes whole frames and has no state.

    Args:
        steps: steps of a frame.
        by_feature: whether a frame holds the steps of each feature in turn, and not the features of
            each step.
    """

    def __init__(self, steps: int, *, by_feature: bool = False) -> None:
        super().__init__()
        self.consumes = steps
        self.by_feature = by_feature

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Layer.step`; there is no state."""
        self.refuse_partial(x)
        if not self.by_feature:
            return _folded(x, self.consumes), None
        frames = x.shape[2] // self.consumes
        return x.unflatten(2, (frames, self.consumes)).transpose(2, 3).flatten(1, 2), None

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; all steps of the frames."""
        return first * self.consumes, (last + 1) * self.consumes - 1


class Unfold(Layer):
    """Layer from `[b steps*features f]` to `[b features f*steps]`, the inverse of both.

    Args:
        steps: steps of a frame.
        by_feature: as of `CausalFold`.
    """

    def __init__(self, steps: int, *, by_feature: bool = False) -> None:
        super().__init__()
        self.produces = steps
        self.by_feature = by_feature

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Layer.step`; there is no state."""
        features = x.shape[1] // self.produces
        if self.by_feature:
            return x.unflatten(1, (features, self.produces)).transpose(2, 3).flatten(2), None
        return x.unflatten(1, (self.produces, features)).permute(0, 2, 3, 1).flatten(2), None

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; the frames that the steps belong to."""
        return first // self.produces, last // self.produces


def _folded(x: Features, steps: int) -> Output:
    """Return whole frames with the features of their steps one after the other."""
    frames = x.shape[2] // steps
    return x.unflatten(2, (frames, steps)).permute(0, 3, 1, 2).flatten(1, 2)
