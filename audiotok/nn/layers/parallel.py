"""Layers side by side on the same input, and a normalisation that removes gain."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from audiotok._platform.errors import InputError
from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.base import Layer, Span, State


class Parallel(Layer):
    """Causal layers of equal rates on one input, their outputs side by side.

    It maps `[b d t]` to `[b e1+e2+... u]`.

    Args:
        layers: at least one.

    Raises:
        ValueError: a layer looks ahead, or their rates differ.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        rates = {(layer.consumes, layer.produces, layer.causal) for layer in self}
        if len(rates) != 1 or not layers[0].causal:
            raise InputError("layers side by side must be causal and of one rate")
        self.consumes = layers[0].consumes
        self.produces = layers[0].produces

    def __iter__(self) -> Iterator[Layer]:
        return iter(cast("Iterable[Layer]", self.layers))

    def start(self, batch: int) -> State:
        """Return one initial state per layer."""
        return tuple(layer.start(batch) for layer in self)

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """Step every layer on the same input."""
        pairs = [layer.step(x, before) for layer, before in zip(self, state, strict=True)]
        return torch.cat([y for y, _ in pairs], 1), tuple(after for _, after in pairs)

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; the widest of the spans."""
        spans = [layer.input_span(first, last) for layer in self]
        return min(span[0] for span in spans), max(span[1] for span in spans)


class LevelNorm(Layer):
    """Normalisation of a spectrum `[b d t]` by its recent level, so that gain does not change it.

    The level of a frame is the root of the mean square over features and over the last `frames`
    frames, this one included, weighted by half of a Hann window that falls with age.

    Args:
        frames: number of frames that the level is a mean of.
        floor: added to the mean square, so that silence is not amplified.
    """

    weights: Tensor

    def __init__(self, frames: int = 50, *, floor: float = 1e-4) -> None:
        super().__init__()
        self.frames = frames
        self.floor = floor
        ages = torch.arange(frames - 1, -1, -1, dtype=torch.float64)
        fall = torch.cos(torch.pi / 2 * ages / frames).square()
        self.register_buffer("weights", (fall / fall.sum()).float(), persistent=False)

    def start(self, batch: int) -> State:
        """Return the mean squares `[b frames-1]` of the frames before: zeros."""
        return self.zeros(batch, self.frames - 1)

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """Divide each frame by its level."""
        if not x.shape[2]:
            return x, state
        energy = torch.cat([state, x.float().square().mean(1)], 1)
        level = energy.unfold(1, self.frames, 1) @ self.weights
        y = x * (level + self.floor).rsqrt()[:, None].to(x.dtype)
        return y, energy[:, energy.shape[1] - self.frames + 1 :]

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; the frames that the level is a mean of."""
        return first - self.frames + 1, last
