"""Who steps the conversations: a codec in torch, or an exported one
(`audiotok.runtime.batching_numpy`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from audiotok.runtime.batching_numpy import Crowd
from audiotok.runtime.exported import Exported
from audiotok.tokens.tokenizer import Tokenizer

if TYPE_CHECKING:
    from audiotok.codecs.models.base import Codec


@runtime_checkable
class Steps(Protocol):
    """Streams of one codec, stepped side by side; used by one thread. Arrays are numpy's."""

    @property
    def codec(self) -> Tokenizer:
        """Whose they are."""
        ...

    @property
    def block(self) -> int:
        """Frames a step that a recording goes fastest in."""
        ...

    @property
    def first_frames(self) -> int:
        """Frames that the first step needs at least."""
        ...

    @property
    def latency(self) -> float:
        """Seconds from a sample's arrival to its decoded self, at most, computing apart."""
        ...

    def open(self, block: int, /) -> Any:
        """A new stream, stepped so many frames at a time."""

    def close(self, stream: Any, /) -> None:
        """Forget one."""

    def encode(self, pieces: Mapping[Any, np.ndarray], /) -> dict[Any, np.ndarray]:
        """Samples `[c t]` of each stream to the codes `[k f]` that they complete."""
        ...

    def decode(self, codes: Mapping[Any, np.ndarray], /) -> dict[Any, np.ndarray]:
        """Codes `[k f]` of each stream to the samples `[c t]` that they complete."""
        ...

    def finish_encode(self, stream: Any, /) -> np.ndarray:
        """The codes `[k f]` of what is left."""
        ...

    def finish_decode(self, stream: Any, /) -> np.ndarray:
        """The samples `[c t]` that are left."""
        ...


class _InTorch:
    """`stream.StreamBatch`, in numpy's arrays.

    Args:
        codec: that can stream.

    Raises:
        ValueError: it cannot; says why.
    """

    def __init__(self, codec: Codec) -> None:
        from audiotok.runtime.stream import Stream, StreamBatch

        Stream(codec)
        self.codec, self.block, self.first_frames = codec, codec.block, codec.first_frames
        self.latency = codec.latency
        self._stream, self._batch = Stream, StreamBatch(codec)
        self._device = next(codec.parameters()).device

    def open(self, block: int) -> Any:
        """See `Steps.open`."""
        return self._stream(self.codec, block=block)

    def close(self, stream: Any) -> None:
        """See `Steps.close`; a stream is all there is of it."""

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
    """Streams that look at so many seconds around a frame (`runtime.windows`), each by itself."""

    def __init__(self, codec: Codec, context: float) -> None:
        from audiotok.runtime.stream import Stream

        self.codec, self.block, self._context = codec, codec.block, context
        self.first_frames = max(2, codec.first_frames)  # codebooks are those of the first audio
        self.latency = Stream(codec, context=context).latency.algorithmic
        self._stream, self._device = Stream, codec.device

    def open(self, block: int) -> Any:
        """See `Steps.open`; windows are of one size."""
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
    """Who steps streams of a codec.

    Args:
        codec: to be streamed.
        context: seconds around a frame that one may look at which needs the whole recording.

    Raises:
        ValueError: it cannot stream, or needs no context; says why.
    """
    steps: Steps
    if isinstance(codec, Exported):
        if context is not None:
            raise ValueError("windows run in torch: leave --context or --backend out")
        steps = Crowd(codec)
    else:
        steps = _InTorch(codec) if context is None else _InWindows(codec, context)
    _warm(steps)
    return steps


def _warm(steps: Steps) -> None:
    """Once there and back, so that nobody waits for what is made ready when it is first used."""
    stream, frames = steps.open(1), steps.first_frames + 2
    silence = np.zeros((steps.codec.channels, frames * steps.codec.frame_size), np.float32)
    codes = [steps.encode({stream: silence})[stream], steps.finish_encode(stream)]
    steps.decode({stream: np.concatenate(codes, 1)})
    steps.finish_decode(stream)
    steps.close(stream)
