"""Base class of layers: `forward` over a whole signal equals one `step` from `start`.

One implementation serves offline and streaming use, so the two cannot diverge. The state is kept
outside the module, so that one layer serves any number of streams and threads.

A causal layer reads `consumes` input steps and writes `produces` output steps at a time:

    conv, stride 2     consumes 2  produces 1
    transposed, x5     consumes 1  produces 5
    STFT front end     consumes 320 samples  produces 1 frame

A layer with look-ahead takes steps of any length and lags: a step returns the outputs that the
inputs so far determine, and `finish` returns the rest. A layer that needs the whole signal (a
backward LSTM, normalisation over the clip) returns nothing before `finish`.

The design follows the contract of google/sequence-layers, and kyutai-labs/moshi, where the whole
signal is one step.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from audiotok._platform.errors import InputError
from audiotok._platform.shapes import Features, Output
from audiotok._platform.shapes import State as State
from audiotok.nn.linear import Linear
from audiotok.nn.onednn import computes

L = TypeVar("L", bound=nn.Module)
Span = tuple[int | float, int | float]
"""First and last input step of a receptive field; -inf or inf where there is no bound."""


class Layer(nn.Module):
    """Map from `[b d t]` to `[b e u]` that can be run whole or in pieces.

    A subclass implements `step` and `input_span`, and `start` if it has state. A layer with
    look-ahead sets `causal = False` and implements `forward` and `finish` as well.

    Attributes:
        causal: whether outputs depend on no later input.
        consumes: input steps that a causal layer reads at a time.
        produces: output steps that it writes at a time.
    """

    causal: bool = True
    consumes: int = 1
    produces: int = 1

    def start(self, batch: int) -> State:
        """Return the state before the first step, for `batch` signals."""
        return None

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """Process further inputs `[b d t]`.

        A causal layer takes multiples of `consumes` and returns `t / consumes * produces` outputs;
        a layer with look-ahead takes any t and returns the outputs that are determined by then.

        Returns:
            The outputs `[b e u]`, and the state after them.
        """
        raise NotImplementedError

    def finish(self, x: Features, state: State) -> Output:
        """Process the last inputs, of any length that `forward` takes, and the end of the signal.

        Any steps and a `finish` together return what `forward` returns for the whole signal.
        """
        return self.step(x, state)[0]

    def step_after(self, first: Activation, x: Features, state: State) -> tuple[Output, State]:
        """Process what an activation returns for further inputs, as `step` does.

        A layer that keeps inputs can have it write next to those that are kept.
        """
        return self.step(first(x), state)

    def finish_after(self, first: Activation, x: Features, state: State) -> Output:
        """Process what an activation returns for the last inputs, as `finish` does."""
        return self.finish(first(x), state)

    def input_span(self, first: int, last: int) -> Span:
        """Return the span of inputs that outputs `first` to `last` depend on: the receptive field.

        Steps are counted from the start of the signal; those before it or past its end are padding.
        The bounds are independent: the first input follows from `first`, the last from `last`.
        """
        raise InputError(f"{type(self).__name__} declares no receptive field")

    def forward(self, x: Features) -> Output:
        """Return the outputs `[b e u]` of a whole signal `[b d t]`."""
        return self.step(x, self.start(x.shape[0]))[0]

    @staticmethod
    def joined(before: Tensor, x: Tensor) -> Tensor:
        """Concatenate along time, with the features of a step contiguous in memory.

        That is the fastest layout for linear maps and convolutions on a CPU.
        """
        if not before.shape[2]:
            return x
        return torch.cat([before.transpose(1, 2), x.transpose(1, 2)], 1).transpose(1, 2)

    def refuse_partial(self, x: Tensor) -> None:
        """Raise unless the length of a piece `[b d t]` is a multiple of `consumes`.

        Raises:
            ValueError: t is not a multiple of `consumes`.
        """
        if x.shape[2] % self.consumes:
            raise InputError(
                f"{type(self).__name__} takes multiples of {self.consumes} steps,"
                f" not {x.shape[2]}: fill up the last one"
            )

    def zeros(self, *shape: int) -> Tensor:
        """Return zeros on the device and of the dtype of the layer's weights."""
        like = next(self.parameters(), None)
        if like is None:
            like = next((b for b in self.buffers() if b.is_floating_point()), torch.empty(0))
        return torch.zeros(*shape, dtype=like.dtype, device=like.device)


class Activation(Layer):
    """Layer without a state whose every output depends on its own input only.

    A subclass implements `forward`, and `write` where that takes less memory.
    """

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`."""
        raise NotImplementedError

    def write(self, x: Tensor, out: Tensor) -> None:
        """Write the outputs for `x` `[b d t]` into `out` `[b e t]`, without gradients."""
        out.copy_(self(x))

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Layer.step`; there is no state."""
        return self(x), None

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; each output depends on its own input only."""
        return first, last


def interleave(conv: nn.Conv1d | nn.ConvTranspose1d) -> None:
    """Store a convolution's weights with the features of a tap contiguous in memory.

    Our layers read them in this order; the values and the shape of the tensor are unchanged.
    """
    weight = conv.weight.data
    conv.weight.data = weight.transpose(1, 2).contiguous().transpose(1, 2)


def keep_size(layer: L) -> L:
    """Return a new layer with random weights of its maps that keep the size of features.

    So a new encoder reaches more than the middle of a fixed grid.
    """
    for module in layer.modules():
        if isinstance(module, nn.Conv1d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
    return layer


def in_pieces(layer: Layer, x: Features, size: int) -> Output:
    """Return the output of a layer for a whole signal, computed in pieces whose features fit a
    cache.

    Args:
        layer: any layer.
        x: features `[b d t]`.
        size: inputs in a piece.
    """
    state, outputs = layer.start(len(x)), []
    *pieces, last = x.split(size, 2)
    for piece in pieces:
        y, state = layer.step(piece, state)
        outputs.append(y)
    return torch.cat([*outputs, layer.finish(last, state)], 2)


class Chain(Layer):
    """Layers that run one after the other."""

    def __init__(self, layers: Iterable[Layer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        ratio, unit = (
            Fraction(1),
            1,
        )  # outputs per input so far; inputs in whole units of all layers
        for layer in self:
            ratio /= layer.consumes
            unit *= (ratio * unit).denominator
            ratio *= layer.produces
        self.consumes = unit
        self.produces = int(unit * ratio)
        self.causal = all(layer.causal for layer in self)

    def __iter__(self) -> Iterator[Layer]:
        return iter(cast("Iterable[Layer]", self.layers))

    def start(self, batch: int) -> State:
        """See `Layer.start`; the state is a tuple of one state per layer."""
        return tuple(layer.start(batch) for layer in self)

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Layer.step`; every layer takes a step in turn."""
        after: list[State] = []
        first = None  # an activation whose outputs the next layer may want in a place of its own
        for layer, before in zip(self, state, strict=True):
            if first is None and isinstance(layer, Activation):
                first, new = layer, None
            elif first is None:
                x, new = layer.step(x, before)
            else:
                (x, new), first = layer.step_after(first, x, before), None
            after.append(new)
        return x if first is None else first(x), tuple(after)

    def finish(self, x: Features, state: State) -> Output:
        """See `Layer.finish`; every layer finishes in turn."""
        first = None
        for layer, before in zip(self, state, strict=True):
            if first is None and isinstance(layer, Activation):
                first = layer
            elif first is None:
                x = layer.finish(x, before)
            else:
                x, first = layer.finish_after(first, x, before), None
        return x if first is None else first(x)

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
        for layer in self:
            x = layer(x)
        return x


class WholeClip(Layer):
    """Layer whose every output depends on the whole signal; its state is all inputs so far.

    A subclass implements `forward`.

    Args:
        inputs: number of input features.
        outputs: number of output features; `inputs` if None.
    """

    causal = False

    def __init__(self, inputs: int, outputs: int | None = None) -> None:
        super().__init__()
        self.inputs = inputs
        self.outputs = outputs or inputs

    def start(self, batch: int) -> State:
        """See `Layer.start`."""
        return self.zeros(batch, self.inputs, 0)

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Layer.step`; there is no output before the end."""
        return x.new_zeros(len(x), self.outputs, 0), self.joined(state, x)

    def finish(self, x: Features, state: State) -> Output:
        """See `Layer.finish`; all outputs are returned here."""
        return self.forward(self.joined(state, x))

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`."""
        raise NotImplementedError

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; each output depends on every input."""
        return -float("inf"), float("inf")


class Residual(Layer):
    """Residual connection `x + body(x)`, or `shortcut(x) + body(x)`.

    Where the body lags, `x` is kept until the output of the body arrives.

    Args:
        body: layer with as many outputs as inputs per step.
        shortcut: layer applied to `x`; `x` itself if None.
        most: numbers that a step takes at once, so that a CPU's cache holds what is between its
            layers; any if None. More are taken in pieces, without gradients.
    """

    def __init__(
        self, body: Layer, shortcut: Layer | None = None, *, most: int | None = None
    ) -> None:
        super().__init__()
        self.most = most
        self.body = body
        self.shortcut = shortcut
        self.consumes = body.consumes
        self.produces = body.produces
        self.causal = body.causal and (shortcut is None or shortcut.causal)

    def start(self, batch: int) -> State:
        """See `Layer.start`; states of body and shortcut, and inputs that wait for the body."""
        return self.body.start(batch), self.shortcut.start(batch) if self.shortcut else None, None

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Layer.step`; body and shortcut take a step, or one for each piece."""
        return self._in_pieces(x, state) if self._is_large(x) else self._step(x, state)

    def _is_large(self, x: Tensor) -> bool:
        return self.most is not None and x.numel() > self.most and computes(x, x)

    def _in_pieces(self, x: Tensor, state: State, *, ends: bool = False) -> tuple[Output, State]:
        """Return what `step` or `finish` does, computed in pieces of `most` numbers."""
        assert self.most is not None
        waits = 0 if state[2] is None else state[2].shape[2]
        total = x.new_empty(len(x), waits + x.shape[2], x.shape[1]).transpose(1, 2)
        count, units = 0, self.most // (len(x) * x.shape[1] * self.consumes)
        *pieces, last = x.split(max(1, units) * self.consumes, 2)
        for piece in pieces:
            y, state = self._step(piece, state, total[:, :, count:])
            count += y.shape[2]
        y, state = (self._finish if ends else self._step)(last, state, total[:, :, count:])
        return total[:, :, : count + y.shape[2]], state

    def _step(self, x: Tensor, state: State, out: Tensor | None = None) -> tuple[Output, State]:
        """Return outputs, written at the beginning of `out` if there is one, and the state."""
        body, shortcut, waiting = state
        y, body = self.body.step(x, body)
        if self.shortcut:
            x, shortcut = self.shortcut.step(x, shortcut)
        y, x = self._added(waiting, x, y, out)
        return y, (body, shortcut, None if self.causal else x)

    def _added(
        self, waiting: Tensor | None, x: Tensor, y: Tensor, out: Tensor | None = None
    ) -> tuple[Output, Tensor]:
        """Return `y` with as many inputs added, and the inputs after them."""
        waits = 0 if waiting is None else waiting.shape[2]
        if waits > y.shape[2] or not computes(x, x):
            x = x if waiting is None else self.joined(waiting, x)
            waiting, waits = None, 0
        many = y.shape[2] - waits
        if waiting is None and out is None:
            return x[:, :, :many] + y, x[:, :, many:]
        out = torch.empty_like(y) if out is None else out[:, :, : y.shape[2]]
        if waiting is not None:
            torch.add(waiting, y[:, :, :waits], out=out[:, :, :waits])
        torch.add(x[:, :, :many], y[:, :, waits:], out=out[:, :, waits:])
        return out, x[:, :, many:]

    def finish(self, x: Features, state: State) -> Output:
        """See `Layer.finish`; body and shortcut finish."""
        large = self._is_large(x)
        return (self._in_pieces(x, state, ends=True) if large else self._finish(x, state))[0]

    def _finish(self, x: Tensor, state: State, out: Tensor | None = None) -> tuple[Output, State]:
        body, shortcut, waiting = state
        y = self.body.finish(x, body)
        if self.shortcut:
            x = self.shortcut.finish(x, shortcut)
        return self._added(waiting, x, y, out)[0], None

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; the span of body and shortcut together."""
        lo, hi = self.body.input_span(first, last)
        other = self.shortcut.input_span(first, last) if self.shortcut else (first, last)
        return min(lo, other[0]), max(hi, other[1])

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`."""
        return (self.shortcut(x) if self.shortcut else x) + self.body(x)


class Pointwise(Activation):
    """Layer of a module that processes every step by itself, such as an activation."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`."""
        return self.module(x)


class Mix(Layer):
    """Linear map of the features at every step (a 1x1 convolution)."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True) -> None:
        super().__init__()
        self.linear = Linear(inputs, outputs, bias=bias)

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Layer.step`; there is no state."""
        return self.linear(x.transpose(1, 2)).transpose(1, 2), None

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; each output depends on its own input only."""
        return first, last


class Norm(Layer):
    """Layer normalisation over the features of each step."""

    def __init__(self, features: int, *, affine: bool = True, eps: float = 1e-5) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(features, eps, elementwise_affine=affine)

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Layer.step`; there is no state."""
        return self.norm(x.transpose(1, 2)).transpose(1, 2), None

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; each output depends on its own input only."""
        return first, last
