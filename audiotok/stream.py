"""Stream: one conversation with a codec, encoded and decoded as it comes.

A stream owns all state, so one codec serves any number of streams and threads.
"""

from __future__ import annotations

import math

from torch import Tensor

from audiotok.codecs.base import Codec
from audiotok.pieces import Decoding, Encoding


class Stream:
    """Encode and decode a piece at a time, frame by frame, with the codec's latency.

    A codec that mirrors its first frames (EnCodec) gives nothing until `codec.first_frames` of them
    are there, then every frame as it comes. One that looks ahead (DAC) lags by as much.

    >>> stream = Stream(codec)
    >>> for piece in microphone:                 # samples [c t], any t
    ...     codes = stream.encode(piece)         # [k f], often no frame yet
    ...     loudspeaker.play(stream.decode(codes))
    >>> rest = stream.decode(stream.finish_encode()); end = stream.finish_decode()

    Args:
        codec: one of finite `codec.latency`.
        codebooks: how many to use (all if None).

    Raises:
        ValueError: the codec needs the end of a recording before it begins.
    """

    def __init__(self, codec: Codec, *, codebooks: int | None = None) -> None:
        if not math.isfinite(codec.latency):
            raise ValueError(f"codec {codec.name!r} looks ahead without bound; it cannot stream")
        self.codec = codec
        self._encoding = Encoding(codec, codebooks=codebooks, block=1)
        self._decoding = Decoding(codec, block=1)

    def encode(self, samples: Tensor) -> Tensor:
        """Samples `[c t]` at the codec's rate to the codes `[k f]` that they complete."""
        return self._encoding.push(samples[None])[0]

    def finish_encode(self) -> Tensor:
        """The codes `[k f]` of what is left; the last frame is filled up with silence."""
        return self._encoding.finish()[0]

    def decode(self, codes: Tensor) -> Tensor:
        """Codes `[k f]` to the samples `[c t]` that they complete."""
        return self._decoding.push(codes[None])[0]

    def finish_decode(self) -> Tensor:
        """The samples `[c t]` that are left, up to the end of the last frame."""
        return self._decoding.finish()[0]
