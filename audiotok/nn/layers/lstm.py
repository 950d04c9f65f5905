"""Recurrence over frames: a long short-term memory that is added to what it hears."""

from __future__ import annotations

from torch import Tensor, nn

from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.base import Layer, Span, State


class Lstm(Layer):
    """x + LSTM(x), `[b features f]` to the same, or to twice as many features if bidirectional.

    Args:
        features: width of the input and of each direction's memory.
        depth: LSTM layers on top of each other.
        skip: whether x is added (for both directions, if there are two).
        bidirectional: whether a second memory runs from the end, as in SpeechTokenizer's encoder;
            then nothing is determined before it.

    Source: EnCodec (Défossez et al. 2022, arXiv:2210.13438), `modules/lstm.py`; SpeechTokenizer
    (Zhang et al. 2023, arXiv:2308.16692).
    """

    def __init__(
        self, features: int, *, depth: int = 2, skip: bool = True, bidirectional: bool = False
    ) -> None:
        super().__init__()
        self.causal, self.skip = not bidirectional, skip
        self.lstm = nn.LSTM(
            features, features, depth, batch_first=True, bidirectional=bidirectional
        )

    def start(self, batch: int) -> State:
        """Hidden and cell state of every layer, `[b depth features]`; if bidirectional, inputs."""
        if not self.causal:
            return self.zeros(batch, self.lstm.input_size, 0)
        shape = batch, self.lstm.num_layers, self.lstm.hidden_size
        return self.zeros(*shape), self.zeros(*shape)

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """Carry on from the state."""
        if not self.causal:
            return x.new_zeros(len(x), 2 * x.shape[1], 0), self.joined(state, x)
        if not x.shape[2]:
            return x, state
        hidden, cell = (s.transpose(0, 1).contiguous() for s in state)
        y, after = self.lstm(x.transpose(1, 2), (hidden, cell))
        return self._added(x, y), tuple(s.transpose(0, 1) for s in after)

    def finish(self, x: Features, state: State) -> Output:
        """The rest; if bidirectional, everything."""
        return self.step(x, state)[0] if self.causal else self.forward(self.joined(state, x))

    def forward(self, x: Features) -> Output:
        """The whole signal."""
        if self.causal:
            return super().forward(x)
        return self._added(x, self.lstm(x.transpose(1, 2))[0])

    def _added(self, x: Tensor, y: Tensor) -> Tensor:
        y = y.transpose(1, 2)
        if not self.skip:
            return y
        return y + x.repeat(1, y.shape[1] // x.shape[1], 1)

    def reach(self, first: int, last: int) -> Span:
        """Everything before; if bidirectional, everything."""
        return -float("inf"), last if self.causal else float("inf")
