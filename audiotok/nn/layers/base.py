"""What every building block promises: `forward` over a whole signal is one `step` from `start`.

One implementation serves offline and streaming use, so the two cannot drift apart. State lives
outside the module: one layer serves any number of streams and threads.

A causal layer reads `consumes` input steps and writes `produces` output steps at a time:

    conv, stride 2     consumes 2  produces 1
    transposed, x5     consumes 1  produces 5
    STFT front end     consumes 320 samples  produces 1 frame

A layer that looks ahead takes the same steps, of any length, and lags: a step gives the outputs
that the inputs so far determine, and `finish` the rest. One that needs the whole signal (a memory
that runs from the end, a normalisation over the clip) gives nothing before `finish`.

Source of the idea: google/sequence-layers' contract, kyutai-labs/moshi's whole signal = one step.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import cast

import torch
from torch import Tensor, nn

from audiotok._platform.shapes import Features, Output
from audiotok._platform.shapes import State as State

Span = tuple[int | float, int | float]
"""First and last input step that something depends on; -inf or inf where there is no bound."""


class Layer(nn.Module):
    """A map from `[b d t]` to `[b e u]` that can be run whole or a piece at a time.

    A subclass writes `step` and `reach`, and `start` when it keeps state. A layer that looks
    ahead sets `causal = False` and writes `forward` and `finish` as well.
    """

    causal: bool = True
    consumes: int = 1
    produces: int = 1

    def start(self, batch: int) -> State:
        """The state before the first step, for `batch` signals."""
        return None

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """Continue by `x [b d t]`.

        A causal layer takes multiples of `consumes` and gives `t / consumes * produces`; one that
        looks ahead takes any t and gives what it can.
        """
        raise NotImplementedError

    def finish(self, x: Features, state: State) -> Output:
        """The last step, of any length that `forward` takes, with the end that `forward` makes.

        `forward` over a whole signal is any steps and a `finish`.
        """
        return self.step(x, state)[0]

    def reach(self, first: int, last: int) -> Span:
        """The span of input steps that outputs `first..last` depend on (its receptive field).

        Counted from the start of the signal; what lies before it or past its end is padding.
        Neither bound depends on the other: the first input on `first`, the last on `last`.
        """
        raise ValueError(f"{type(self).__name__} declares no receptive field")

    def forward(self, x: Features) -> Output:
        """The whole signal: one step from the start."""
        return self.step(x, self.start(x.shape[0]))[0]

    @staticmethod
    def joined(before: Tensor, x: Tensor) -> Tensor:
        """Both along time, the features of a step next to each other in memory, as linear maps and
        convolutions like them best on a CPU."""
        if not before.shape[2]:
            return x
        return torch.cat([before.transpose(1, 2), x.transpose(1, 2)], 1).transpose(1, 2)

    def refuse_partial(self, x: Tensor) -> None:
        """Check that a piece `[b d t]` is made of whole units.

        Raises:
            ValueError: t is not a multiple of `consumes`.
        """
        if x.shape[2] % self.consumes:
            raise ValueError(
                f"{type(self).__name__} takes multiples of {self.consumes} steps,"
                f" not {x.shape[2]}: fill up the last one"
            )

    def zeros(self, *shape: int) -> Tensor:
        """Zeros beside this layer's own weights: same device, same dtype."""
        like = next(self.parameters(), None)
        if like is None:
            like = next((b for b in self.buffers() if b.is_floating_point()), torch.empty(0))
        return torch.zeros(*shape, dtype=like.dtype, device=like.device)


def interleave(conv: nn.Conv1d | nn.ConvTranspose1d) -> None:
    """Lays a convolution's weights out in memory with the features of a tap next to each other, as
    our layers read them; it is the same tensor."""
    weight = conv.weight.data
    conv.weight.data = weight.transpose(1, 2).contiguous().transpose(1, 2)


class Chain(Layer):
    """Layers one after the other."""

    def __init__(self, layers: Iterable[Layer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        ratio, need = Fraction(1), 1  # outputs per input so far; inputs that keep all whole
        for layer in self:
            ratio /= layer.consumes
            need *= (ratio * need).denominator
            ratio *= layer.produces
        self.consumes, self.produces = need, int(need * ratio)
        self.causal = all(layer.causal for layer in self)

    def __iter__(self) -> Iterator[Layer]:
        return iter(cast("Iterable[Layer]", self.layers))

    def start(self, batch: int) -> State:
        """One state per layer."""
        return tuple(layer.start(batch) for layer in self)

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """Step every layer in turn."""
        after = []
        for layer, before in zip(self, state, strict=True):
            x, new = layer.step(x, before)
            after.append(new)
        return x, tuple(after)

    def finish(self, x: Features, state: State) -> Output:
        """Finish every layer in turn."""
        for layer, before in zip(self, state, strict=True):
            x = layer.finish(x, before)
        return x

    def reach(self, first: int, last: int) -> Span:
        """Follow the span back through the layers."""
        lo: int | float = first
        hi: int | float = last
        for layer in reversed(list(self)):
            # Each bound goes back by itself, and one that is infinite stays so.
            if isinstance(lo, int):
                lo = layer.reach(lo, lo)[0]
            if isinstance(hi, int):
                hi = layer.reach(hi, hi)[1]
        return lo, hi

    def forward(self, x: Features) -> Output:
        """The whole signal through every layer."""
        for layer in self:
            x = layer(x)
        return x


class WholeClip(Layer):
    """A layer of which every output depends on the whole signal: its state is all inputs so far.

    A subclass writes `forward`.

    Args:
        inputs: features that come in.
        outputs: features that go out; as many if None.
    """

    causal = False

    def __init__(self, inputs: int, outputs: int | None = None) -> None:
        super().__init__()
        self.inputs, self.outputs = inputs, outputs or inputs

    def start(self, batch: int) -> State:
        """No inputs yet."""
        return self.zeros(batch, self.inputs, 0)

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """Nothing is determined before the end."""
        return x.new_zeros(len(x), self.outputs, 0), self.joined(state, x)

    def finish(self, x: Features, state: State) -> Output:
        """Everything."""
        return self.forward(self.joined(state, x))

    def forward(self, x: Features) -> Output:
        """The whole signal."""
        raise NotImplementedError

    def reach(self, first: int, last: int) -> Span:
        """Each output from every input."""
        return -float("inf"), float("inf")


class Residual(Layer):
    """`x + body(x)`, with an optional shortcut in the place of `x`.

    Where the body lags, what it is added to waits.
    """

    def __init__(self, body: Layer, shortcut: Layer | None = None) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut
        self.consumes, self.produces = body.consumes, body.produces
        self.causal = body.causal and (shortcut is None or shortcut.causal)

    def start(self, batch: int) -> State:
        """The states of body and shortcut, and what waits for the body."""
        return self.body.start(batch), self.shortcut.start(batch) if self.shortcut else None, None

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """Step body and shortcut."""
        body, shortcut, waiting = state
        y, body = self.body.step(x, body)
        if self.shortcut:
            x, shortcut = self.shortcut.step(x, shortcut)
        if self.causal:
            return x + y, (body, shortcut, None)
        x = x if waiting is None else self.joined(waiting, x)
        return x[:, :, : y.shape[2]] + y, (body, shortcut, x[:, :, y.shape[2] :])

    def finish(self, x: Features, state: State) -> Output:
        """Finish body and shortcut."""
        body, shortcut, waiting = state
        y = self.body.finish(x, body)
        if self.shortcut:
            x = self.shortcut.finish(x, shortcut)
        return y + (x if waiting is None else self.joined(waiting, x))

    def reach(self, first: int, last: int) -> Span:
        """The wider of the two spans."""
        lo, hi = self.body.reach(first, last)
        other = self.shortcut.reach(first, last) if self.shortcut else (first, last)
        return min(lo, other[0]), max(hi, other[1])

    def forward(self, x: Features) -> Output:
        """The whole signal."""
        return (self.shortcut(x) if self.shortcut else x) + self.body(x)


class Pointwise(Layer):
    """Any module that treats every step by itself, as a layer: an activation, say."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """Apply it; there is no state."""
        return self.module(x), None

    def reach(self, first: int, last: int) -> Span:
        """Each output from its own input alone."""
        return first, last


class Mix(Layer):
    """A linear map of the features at every step (a 1x1 convolution)."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias=bias)

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """Mix features; there is no state."""
        return self.linear(x.transpose(1, 2)).transpose(1, 2), None

    def reach(self, first: int, last: int) -> Span:
        """Each output from its own input alone."""
        return first, last


class Norm(Layer):
    """Layer normalisation over the features of each step."""

    def __init__(self, features: int, *, affine: bool = True, eps: float = 1e-5) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(features, eps, elementwise_affine=affine)

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """Normalise; there is no state."""
        return self.norm(x.transpose(1, 2)).transpose(1, 2), None

    def reach(self, first: int, last: int) -> Span:
        """Each output from its own input alone."""
        return first, last
