"""The encoder of a decoder that stands alone, or the decoder of a tokenizer that has none."""

from __future__ import annotations

from typing import Literal

from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.base import Layer, Span, State
from audiotok.tokens.tokenizer import NoDecoderError, NoEncoderError


class Absent(Layer):
    """Layer in the place of a part that a network does not have: it refuses to run.

    Args:
        part: the missing part.
        frame_size: samples per frame.
    """

    def __init__(self, part: Literal["encoder", "decoder"], frame_size: int) -> None:
        super().__init__()
        self.part = part
        self.frame_size = frame_size
        self.consumes = frame_size if part == "encoder" else 1
        self.produces = frame_size if part == "decoder" else 1

    def start(self, batch: int) -> State:
        """Raise `NoDecoderError` or `NoEncoderError`."""
        if self.part == "decoder":
            raise NoDecoderError("this tokenizer has no decoder: name one that takes its tokens")
        raise NoEncoderError("this is a decoder alone: encode with the tokenizer it is made for")

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """Raise as `start` does."""
        return self.start(len(x)), state

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; a frame stands for its own samples."""
        if self.part == "decoder":
            return first // self.frame_size, last // self.frame_size
        return first * self.frame_size, (last + 1) * self.frame_size - 1


class MissingEncoder(Absent):
    """A layer in place of the encoder that published weights of a codec lack.

    Args:
        frame_size: samples per frame.
        why: message of the error that says whose weights encode.
    """

    def __init__(self, frame_size: int, why: str) -> None:
        super().__init__("encoder", frame_size)
        self.why = why

    def start(self, batch: int) -> State:
        """Raise `NoEncoderError`."""
        raise NoEncoderError(self.why)

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; an unbounded past, as nothing is known of it."""
        return -float("inf"), super().input_span(first, last)[1]
