"""The decoder of a tokenizer that has none."""

from __future__ import annotations

from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.base import Layer, Span, State
from audiotok.tokens.tokenizer import NoDecoderError


class NoDecoder(Layer):
    """Decoder of a tokenizer whose codes say what is said, not how it sounds: it refuses to run.

    Args:
        frame_size: samples per frame.
    """

    def __init__(self, frame_size: int) -> None:
        super().__init__()
        self.produces = frame_size

    def start(self, batch: int) -> State:
        """Raise `NoDecoderError`."""
        raise NoDecoderError("this tokenizer has no decoder: name one that takes its tokens")

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """Raise `NoDecoderError`."""
        return self.start(len(x)), state

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; a frame stands for its own samples."""
        return first // self.produces, last // self.produces
