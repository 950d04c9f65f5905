"""Long short-term memory over frames, with a residual connection."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from audiotok._platform.shapes import Features, Output
from audiotok.nn import onednn
from audiotok.nn.layers.base import Layer, Span, State

WIDE = 2048  # features from which on,
FEW = 64  # or steps up to which ours is faster than torch's, which orders weights in every call


class Lstm(Layer):
    """Residual LSTM x + LSTM(x) `[b features f]`, with twice the features out if bidirectional.

    Args:
        features: width of the input and of the hidden state of each direction.
        depth: number of LSTM layers.
        skip: whether x is added (to both directions, if there are two).
        bidirectional: whether a second LSTM runs backward from the end, as in the encoder of
            SpeechTokenizer; then there is no output before the end.

    Source: EnCodec (Défossez et al. 2022, arXiv:2210.13438), `modules/lstm.py`; SpeechTokenizer
    (Zhang et al. 2023, arXiv:2308.16692).
    """

    def __init__(
        self, features: int, *, depth: int = 2, skip: bool = True, bidirectional: bool = False
    ) -> None:
        super().__init__()
        self.causal = not bidirectional
        self.skip = skip
        self.lstm = nn.LSTM(
            features, features, depth, batch_first=True, bidirectional=bidirectional
        )

    def start(self, batch: int) -> State:
        """See `Layer.start`; hidden and cell states `[b depth features]`, or inputs so far."""
        if not self.causal:
            return self.zeros(batch, self.lstm.input_size, 0)
        shape = batch, self.lstm.num_layers, self.lstm.hidden_size
        return self.zeros(*shape), self.zeros(*shape)

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Layer.step`; if bidirectional, there is no output before the end."""
        if not self.causal:
            return x.new_zeros(len(x), 2 * x.shape[1], 0), self.joined(state, x)
        if not x.shape[2]:
            return x, state
        hidden, cell = (s.transpose(0, 1).contiguous() for s in state)
        y, after = run(self.lstm, x.transpose(1, 2), (hidden, cell))
        return self._added(x, y), tuple(s.transpose(0, 1) for s in after)

    def finish(self, x: Features, state: State) -> Output:
        """See `Layer.finish`; if bidirectional, all outputs are returned here."""
        return self.step(x, state)[0] if self.causal else self.forward(self.joined(state, x))

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`."""
        if self.causal:
            return super().forward(x)
        lstm, depth = self.lstm, self.lstm.num_layers
        begin = x.new_zeros(2 * depth, len(x), lstm.hidden_size)
        return self._added(x, run(lstm, x.transpose(1, 2), (begin, begin))[0])

    def _added(self, x: Tensor, y: Tensor) -> Tensor:
        y = y.transpose(1, 2)
        if not self.skip:
            return y
        return y + x.repeat(1, y.shape[1] // x.shape[1], 1)

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; all inputs before, or all inputs if bidirectional."""
        return -float("inf"), last if self.causal else float("inf")


def run(
    lstm: nn.LSTM, x: Tensor, state: tuple[Tensor, Tensor]
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Return what an LSTM makes of `[b t features]`, and its state after that.

    Args:
        lstm: its batch first.
        x: `[b t features]`.
        state: hidden and cell states `[depth b features]`, or twice as many if bidirectional.
    """
    weight = cast("Tensor", lstm.weight_hh_l0)
    small = lstm.hidden_size < WIDE and x.shape[1] > FEW
    if small or onednn.BINARY is None or weight.is_inference() or not onednn.computes(x, weight):
        return lstm(x, state)
    ends: list[tuple[Tensor, Tensor]] = []
    for depth in range(lstm.num_layers):
        outputs = []
        for backward in range(1 + lstm.bidirectional):
            given = x.flip(1) if backward else x
            hidden, cell = (part[len(ends)] for part in state)
            y, end = _one(lstm, f"l{depth}{'_reverse' * backward}", given, hidden, cell)
            outputs.append(y.flip(1) if backward else y)
            ends.append(end)
        x = torch.cat(outputs, 2) if lstm.bidirectional else outputs[0]
    hidden, cell = (torch.stack(parts) for parts in zip(*ends, strict=True))
    return x, (hidden, cell)


def _one(
    lstm: nn.LSTM, name: str, x: Tensor, hidden: Tensor, cell: Tensor
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Run a layer in one direction over `[b t d]`, its parameters those that end in `name`."""
    assert onednn.LINEAR is not None
    assert onednn.BINARY is not None
    width, bias = lstm.hidden_size, None
    if lstm.bias:
        bias = cast("Tensor", getattr(lstm, f"bias_ih_{name}"))
        bias = bias + cast("Tensor", getattr(lstm, f"bias_hh_{name}"))
    inner, outer = (
        onednn.ordered(lstm, full, cast("Tensor", getattr(lstm, full)))
        for full in (f"weight_ih_{name}", f"weight_hh_{name}")
    )
    driven = onednn.LINEAR(x.transpose(0, 1).contiguous(), inner, bias, "none", [], "")
    outputs, cell = [], cell.clone()
    for drive in driven:
        gates = onednn.BINARY(hidden.contiguous(), drive, outer, None, "add")
        taken, kept, new, shown = gates.split(width, 1)
        cell.mul_(kept.sigmoid_()).addcmul_(taken.sigmoid_(), new.tanh_())
        hidden = shown.sigmoid_() * cell.tanh()
        outputs.append(hidden)
    return torch.stack(outputs, 1), (hidden, cell)
