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
    """Layers of equal rates on one input, their outputs side by side.

    It maps `[b d t]` to `[b e1+e2+... u]`. Where a layer lags, the outputs of the others wait.

    Args:
        layers: at least one.

    Raises:
        ValueError: their rates differ.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        if len({(layer.consumes, layer.produces) for layer in self}) != 1:
            raise InputError("layers side by side must be of one rate")
        self.causal = all(layer.causal for layer in self)
        self.consumes = layers[0].consumes
        self.produces = layers[0].produces

    def __iter__(self) -> Iterator[Layer]:
        return iter(cast("Iterable[Layer]", self.layers))

    def start(self, batch: int) -> State:
        """See `Layer.start`; one state per layer, and outputs that wait if one looks ahead."""
        states = tuple(layer.start(batch) for layer in self)
        return states if self.causal else (states, (None,) * len(states))

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Layer.step`; every layer takes a step."""
        states, waiting = (state, None) if self.causal else state
        pairs = [layer.step(x, before) for layer, before in zip(self, states, strict=True)]
        parts, states = [y for y, _ in pairs], tuple(after for _, after in pairs)
        if waiting is None:
            return torch.cat(parts, 1), states
        parts = self._after(waiting, parts)
        count = min(y.shape[2] for y in parts)
        waiting = tuple(y[:, :, count:] for y in parts)
        return torch.cat([y[:, :, :count] for y in parts], 1), (states, waiting)

    def _after(self, waiting: Sequence[Tensor | None], parts: Sequence[Tensor]) -> list[Tensor]:
        """Return outputs after those of each layer that waited."""
        pairs = zip(waiting, parts, strict=True)
        return [y if before is None else self.joined(before, y) for before, y in pairs]

    def finish(self, x: Features, state: State) -> Output:
        """See `Layer.finish`; every layer finishes."""
        if self.causal:
            return self.step(x, state)[0]
        states, waiting = state
        parts = [layer.finish(x, before) for layer, before in zip(self, states, strict=True)]
        return torch.cat(self._after(waiting, parts), 1)

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`."""
        return torch.cat([layer(x) for layer in self], 1)

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
