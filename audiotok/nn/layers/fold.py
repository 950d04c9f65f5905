"""Several steps as one of many features, and back: where frames are longer than latents.

steps    a0 a1 a2 a3 | b0 b1 b2 b3        each of d features
frames   a           | b                  each of 4d: a0's features, then a1's, ...
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.base import Layer, Span, State


class Fold(Layer):
    """`[b features t]` to `[b steps*features t/steps]`; the last one is filled up with zeros.

    It takes any t: what comes before it may lag by any number of steps.
    """

    causal = False

    def __init__(self, features: int, steps: int) -> None:
        super().__init__()
        self.features, self.consumes = features, steps

    def start(self, batch: int) -> State:
        """The steps of a frame begun."""
        return self.zeros(batch, self.features, 0)

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """The frames that are whole."""
        x = torch.cat([state, x], 2)
        whole = x.shape[2] // self.consumes * self.consumes
        return self.forward(x[:, :, :whole]), x[:, :, whole:]

    def finish(self, x: Features, state: State) -> Output:
        """Also the one that is not."""
        return self.forward(torch.cat([state, x], 2))

    def forward(self, x: Features) -> Output:
        """The whole signal."""
        x = F.pad(x, (0, -x.shape[2] % self.consumes))
        frames = x.shape[2] // self.consumes
        return x.unflatten(2, (frames, self.consumes)).permute(0, 3, 1, 2).flatten(1, 2)

    def reach(self, first: int, last: int) -> Span:
        """All steps of a frame."""
        return first * self.consumes, (last + 1) * self.consumes - 1


class Unfold(Layer):
    """`[b steps*features f]` to `[b features f*steps]`: undoes `Fold`."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.produces = steps

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """Apply it; there is no state."""
        features = x.shape[1] // self.produces
        return x.unflatten(1, (self.produces, features)).permute(0, 2, 3, 1).flatten(2), None

    def reach(self, first: int, last: int) -> Span:
        """The frames that the steps are of."""
        return first // self.produces, last // self.produces


class Group(Layer):
    """Whole frames of several steps: `[b d n*steps]` to `[b steps*d n]`, causal, without state.

    What comes before it may not lag; `Unfold` undoes it.
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.consumes = steps

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """Lay the steps of each frame one after the other."""
        self.refuse_partial(x)
        frames = x.shape[2] // self.consumes
        return x.unflatten(2, (frames, self.consumes)).permute(0, 3, 1, 2).flatten(1, 2), None

    def reach(self, first: int, last: int) -> Span:
        """All steps of a frame."""
        return first * self.consumes, (last + 1) * self.consumes - 1
