"""Layer that runs on segments of a fixed length by themselves, such as a transformer over 30 s."""

from __future__ import annotations

import torch

from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.base import Layer, Span, State


class Segmented(Layer):
    """Layer that runs on segments of a fixed length by themselves; its state is a segment begun.

    A subclass implements `segment`.

    Args:
        inputs: number of input features.
        outputs: number of output features.
        size: input steps of a segment.
        consumes: input steps for an output; they divide `size`.
    """

    causal = False

    def __init__(self, inputs: int, outputs: int, *, size: int, consumes: int = 1) -> None:
        super().__init__()
        self.inputs = inputs
        self.outputs = outputs
        self.size = size
        self.consumes = consumes

    def segment(self, x: Features) -> Output:
        """Return the outputs of a segment `[b d t]`, one for every `consumes` inputs begun."""
        raise NotImplementedError

    def start(self, batch: int) -> State:
        """See `Layer.start`."""
        return self.zeros(batch, self.inputs, 0)

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Layer.step`; the segments that are complete."""
        x = self.joined(state, x)
        whole = x.shape[2] // self.size * self.size
        parts = x[:, :, :whole].split(self.size, 2) if whole else ()
        none = x.new_zeros(len(x), self.outputs, 0)
        return torch.cat([none, *map(self.segment, parts)], 2), x[:, :, whole:]

    def finish(self, x: Features, state: State) -> Output:
        """See `Layer.finish`; the segment begun as well."""
        y, rest = self.step(x, state)
        return torch.cat([y, self.segment(rest)], 2) if rest.shape[2] else y

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`."""
        return self.finish(x, self.start(len(x)))

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; all of the segments."""
        outputs = self.size // self.consumes
        return first // outputs * self.size, (last // outputs + 1) * self.size - 1
