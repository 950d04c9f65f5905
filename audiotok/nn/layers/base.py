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

from typing import TypeVar

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
        divides: whether a long step is as fast in pieces of some hundreds of steps.
    """

    causal: bool = True
    consumes: int = 1
    produces: int = 1
    divides: bool = False

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

    divides = True

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
    """

    def __init__(self, body: Layer, shortcut: Layer | None = None) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut
        self.consumes = body.consumes
        self.produces = body.produces
        self.causal = body.causal and (shortcut is None or shortcut.causal)
        self.divides = body.divides and (shortcut is None or shortcut.divides)

    def start(self, batch: int) -> State:
        """See `Layer.start`; states of body and shortcut, and inputs that wait for the body."""
        return self.body.start(batch), self.shortcut.start(batch) if self.shortcut else None, None

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Layer.step`; body and shortcut take a step."""
        body, shortcut, waiting = state
        y, body = self.body.step(x, body)
        if self.shortcut:
            x, shortcut = self.shortcut.step(x, shortcut)
        y, x = self._added(waiting, x, y)
        return y, (body, shortcut, None if self.causal else x)

    def _added(self, waiting: Tensor | None, x: Tensor, y: Tensor) -> tuple[Output, Tensor]:
        """Return `y` with as many inputs added, and the inputs after them."""
        if waiting is None or waiting.shape[2] > y.shape[2] or not computes(x, x):
            x = x if waiting is None else self.joined(waiting, x)
            return x[:, :, : y.shape[2]] + y, x[:, :, y.shape[2] :]
        total, waits = torch.empty_like(y), waiting.shape[2]
        torch.add(waiting, y[:, :, :waits], out=total[:, :, :waits])
        torch.add(x[:, :, : y.shape[2] - waits], y[:, :, waits:], out=total[:, :, waits:])
        return total, x[:, :, y.shape[2] - waits :]

    def finish(self, x: Features, state: State) -> Output:
        """See `Layer.finish`; body and shortcut finish."""
        body, shortcut, waiting = state
        y = self.body.finish(x, body)
        if self.shortcut:
            x = self.shortcut.finish(x, shortcut)
        return self._added(waiting, x, y)[0]

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
