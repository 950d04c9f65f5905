"""Layers that run one after the other, in pieces that fit a CPU's cache."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import cast

import torch
from torch import Tensor, nn

from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.base import Activation, Layer, Span, State
from audiotok.nn.onednn import computes

PIECE = 1 << 20  # numbers of a signal in a piece: 4 MB


def rates(layers: Iterable[Layer]) -> tuple[int, int]:
    """Return the inputs that causal layers in a row read at a time, and the outputs they write."""
    ratio, unit = Fraction(1), 1  # outputs per input so far; inputs in whole units of all layers
    for layer in layers:
        ratio /= layer.consumes
        unit *= (ratio * unit).denominator
        ratio *= layer.produces
    return unit, int(unit * ratio)


class Chain(Layer):
    """Layers that run one after the other.

    Without gradients on a CPU, long steps are taken in pieces that fit its cache.
    """

    def __init__(self, layers: Iterable[Layer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.consumes, self.produces = rates(self)
        self.causal = all(layer.causal for layer in self)
        self.divides = all(layer.divides for layer in self)

    def __iter__(self) -> Iterator[Layer]:
        return iter(cast("Iterable[Layer]", self.layers))

    def start(self, batch: int) -> State:
        """See `Layer.start`; the state is a tuple of one state per layer."""
        return tuple(layer.start(batch) for layer in self)

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Layer.step`; every layer takes a step in turn."""
        step = _ChainStep(list(self), state)
        return step.run(x, ends=False), tuple(step.states)

    def finish(self, x: Features, state: State) -> Output:
        """See `Layer.finish`; every layer finishes in turn."""
        return _ChainStep(list(self), state).run(x, ends=True)

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; the span is traced back through the layers."""
        lo: int | float = first
        hi: int | float = last
        for layer in reversed(list(self)):
            # The bounds are traced independently, and an infinite one stays infinite.
            if isinstance(lo, int):
                lo = layer.input_span(lo, lo)[0]
            if isinstance(hi, int):
                hi = layer.input_span(hi, hi)[1]
        return lo, hi

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`."""
        if computes(x, x):
            return self.finish(x, self.start(len(x)))
        for layer in self:
            x = layer(x)
        return x


class _ChainStep:
    """Runs one step of a chain's layers, and divides what is longer than a piece.

    Pieces run through the layers one after the other until what they give together is small, or
    until the last layer that divides. Their length depends on the position in the signal alone.
    """

    def __init__(self, layers: Sequence[Layer], states: Sequence[State]) -> None:
        self.layers = layers
        self.states = list(states)

    def run(self, x: Tensor, *, ends: bool) -> Output:
        """Return the outputs; the signal may end with these inputs."""
        return self._run(0, len(self.layers), x, ends=ends)[0]

    def _run(
        self, begin: int, end: int, x: Tensor, *, ends: bool, pieces: int = 1
    ) -> tuple[Output, int]:
        """Return the outputs of layers from `begin`, and the layer before which they stopped.

        That is `end`, or one that takes few numbers from all pieces together.
        """
        i, first = begin, None  # an activation that the next layer may have write where it reads
        while i < end:
            size = x.shape[1] * x.shape[2]
            if first is None and i > begin and pieces > 1 and size * pieces <= PIECE:
                return x, i
            if first is None and size > PIECE and computes(x, x):
                stop = self._divides_until(i, end)
                unit = rates(self.layers[i:stop])[0]
                steps = max(1, PIECE // x.shape[1] // unit) * unit
                if stop > i and steps < x.shape[2]:
                    x, i = self._divided(i, stop, x.split(steps, 2), ends=ends)
                    continue
            x, first = self._one(i, first, x, ends=ends)
            i += 1
        return x if first is None else first(x), end

    def _divides_until(self, i: int, end: int) -> int:
        while i < end and self.layers[i].divides:
            i += 1
        return i

    def _divided(
        self, begin: int, end: int, parts: Sequence[Tensor], *, ends: bool
    ) -> tuple[Output, int]:
        """Return the outputs of all pieces, and the layer before which they stopped."""
        y, stop = self._run(begin, end, parts[0], ends=False, pieces=len(parts))
        outputs = [y]
        outputs += [self._run(begin, stop, part, ends=False)[0] for part in parts[1:-1]]
        outputs += [self._run(begin, stop, parts[-1], ends=ends)[0]]
        return torch.cat([y.transpose(1, 2) for y in outputs], 1).transpose(1, 2), stop

    def _one(
        self, i: int, first: Activation | None, x: Tensor, *, ends: bool
    ) -> tuple[Tensor, Activation | None]:
        layer, state = self.layers[i], self.states[i]
        if first is None and isinstance(layer, Activation):
            return x, layer
        if ends:
            last = layer.finish(x, state) if first is None else layer.finish_after(first, x, state)
            return last, None
        after = layer.step(x, state) if first is None else layer.step_after(first, x, state)
        x, self.states[i] = after
        return x, None
