"""Batched streams of a codec for the server, in torch or exported (`runtime.batching_numpy`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from audiotok._platform.errors import InputError
from audiotok.runtime.batching_numpy import GraphStreamBatch
from audiotok.runtime.exported import Exported
from audiotok.tokens.tokenizer import Tokenizer

if TYPE_CHECKING:
    from audiotok.codecs.models.base import Codec


@runtime_checkable
class Steps(Protocol):
    """Interface of streams of one codec that are stepped together, by one thread, in numpy."""

    @property
    def codec(self) -> Tokenizer:
        """The codec of the streams."""
        ...

    @property
    def block(self) -> int:
        """Frames per step with which a recording is fastest."""
        ...

    @property
    def first_frames(self) -> int:
        """Least number of frames of the first step."""
        ...

    @property
    def latency(self) -> float:
        """Algorithmic latency of encoding and decoding in seconds."""
        ...

    def open(self, block: int, /) -> Any:
        """Open a new stream that is stepped so many frames at a time."""

    def close(self, stream: Any, /) -> None:
        """Release a stream."""

    def encode(self, pieces: Mapping[Any, np.ndarray], /) -> dict[Any, np.ndarray]:
        """Encode samples `[c t]` of each stream to the codes `[k f]` that they complete."""
        ...

    def decode(self, codes: Mapping[Any, np.ndarray], /) -> dict[Any, np.ndarray]:
        """Decode codes `[k f]` of each stream to the samples `[c t]` that they complete."""
        ...

    def finish_encode(self, stream: Any, /) -> np.ndarray:
        """Return the remaining codes `[k f]` of a stream."""
        ...

    def finish_decode(self, stream: Any, /) -> np.ndarray:
        """Return the remaining samples `[c t]` of a stream."""
        ...


class _InTorch:
    """Streams in torch by `stream.StreamBatch`, with numpy arrays.

    Args:
        codec: a codec that can stream.

    Raises:
        ValueError: the codec cannot stream.
    """

    def __init__(self, codec: Codec) -> None:
        from audiotok.runtime.stream import Stream, StreamBatch

        Stream(codec)
        self.codec = codec
        self.block = codec.block
        self.first_frames = codec.first_frames
        self.latency = codec.latency
        self._stream = Stream
        self._batch = StreamBatch(codec)
        self._device = next(codec.parameters()).device

    def open(self, block: int) -> Any:
        """See `Steps.open`."""
        return self._stream(self.codec, block=block)

    def close(self, stream: Any) -> None:
        """See `Steps.close`; a stream holds nothing to release."""

    def encode(self, pieces: Mapping[Any, np.ndarray]) -> dict[Any, np.ndarray]:
        """See `Steps.encode`."""
        return _arrays(self._batch.encode(self._tensors(pieces)))

    def decode(self, codes: Mapping[Any, np.ndarray]) -> dict[Any, np.ndarray]:
        """See `Steps.decode`."""
        return _arrays(self._batch.decode(self._tensors(codes)))

    def finish_encode(self, stream: Any) -> np.ndarray:
        """See `Steps.finish_encode`."""
        return stream.finish_encode().cpu().numpy()

    def finish_decode(self, stream: Any) -> np.ndarray:
        """See `Steps.finish_decode`."""
        return stream.finish_decode().cpu().numpy()

    def _tensors(self, arrays: Mapping[Any, np.ndarray]) -> dict[Any, Any]:
        import torch

        return {one: torch.from_numpy(x).to(self._device) for one, x in arrays.items()}


class _InWindows(_InTorch):
    """Streams in windows of so many seconds around a frame (`runtime.windows`), one by one."""

    def __init__(self, codec: Codec, context: float) -> None:
        from audiotok.runtime.stream import Stream

        self.codec = codec
        self.block = codec.block
        self._context = context
        # The number of codebooks is fixed by the first audio.
        self.first_frames = max(2, codec.first_frames)
        self.latency = Stream(codec, context=context).latency.algorithmic
        self._stream = Stream
        self._device = codec.device

    def open(self, block: int) -> Any:
        """See `Steps.open`; all windows have one size."""
        return self._stream(self.codec, context=self._context)

    def encode(self, pieces: Mapping[Any, np.ndarray]) -> dict[Any, np.ndarray]:
        """See `Steps.encode`."""
        return _arrays({one: one.encode(x) for one, x in self._tensors(pieces).items()})

    def decode(self, codes: Mapping[Any, np.ndarray]) -> dict[Any, np.ndarray]:
        """See `Steps.decode`."""
        return _arrays({one: one.decode(x) for one, x in self._tensors(codes).items()})


def _arrays(tensors: Mapping[Any, Any]) -> dict[Any, np.ndarray]:
    return {stream: tensor.cpu().numpy() for stream, tensor in tensors.items()}


def steps_of(codec: Codec | Exported, context: float | None = None) -> Steps:
    """Return batched streams of a codec, warmed up.

    Args:
        codec: the codec.
        context: seconds around a frame, for a codec that needs the whole recording.

    Raises:
        ValueError: the codec cannot stream, or needs no context.
    """
    steps: Steps
    if isinstance(codec, Exported):
        if context is not None:
            raise InputError("windows run in torch: leave --context or --backend out")
        steps = GraphStreamBatch(codec)
    else:
        steps = _InTorch(codec) if context is None else _InWindows(codec, context)
    _warm(steps)
    return steps


def _warm(steps: Steps) -> None:
    """Encode and decode silence once, so that the first client does not wait for the warm-up."""
    stream, frames = steps.open(1), steps.first_frames + 2
    silence = np.zeros((steps.codec.channels, frames * steps.codec.frame_size), np.float32)
    codes = [steps.encode({stream: silence})[stream], steps.finish_encode(stream)]
    steps.decode({stream: np.concatenate(codes, 1)})
    steps.finish_decode(stream)
    steps.close(stream)
