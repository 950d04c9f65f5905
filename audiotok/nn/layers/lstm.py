"""Long short-term memory over frames, with a residual connection."""

from __future__ import annotations

from torch import Tensor, nn

from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.base import Layer, Span, State


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
        y, after = self.lstm(x.transpose(1, 2), (hidden, cell))
        return self._added(x, y), tuple(s.transpose(0, 1) for s in after)

    def finish(self, x: Features, state: State) -> Output:
        """See `Layer.finish`; if bidirectional, all outputs are returned here."""
        return self.step(x, state)[0] if self.causal else self.forward(self.joined(state, x))

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`."""
        if self.causal:
            return super().forward(x)
        return self._added(x, self.lstm(x.transpose(1, 2))[0])

    def _added(self, x: Tensor, y: Tensor) -> Tensor:
        y = y.transpose(1, 2)
        if not self.skip:
            return y
        return y + x.repeat(1, y.shape[1] // x.shape[1], 1)

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; all inputs before, or all inputs if bidirectional."""
        return -float("inf"), last if self.causal else float("inf")
