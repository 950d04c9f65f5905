"""Stream: one conversation with a codec, coded as it comes; StreamBatch: many side by side.

A stream owns all state, so one codec serves any number of streams and threads.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from audiotok.runtime import snapshot
from audiotok.runtime.base import RunnableCodec
from audiotok.runtime.batching import abreast
from audiotok.runtime.session import Passage
from audiotok.runtime.sessions import Decoding, Encoding
from audiotok.runtime.windows import WindowedDecoding, WindowedEncoding


@dataclass(frozen=True)
class Latency:
    """How late decoded sound is, in seconds.

    Attributes:
        algorithmic: from a sample's arrival to its decoded self, at most, computing apart.
        p50, p99: of computing a frame; nan before the first.
        frames: of the latest that were timed.
    """

    algorithmic: float
    p50: float
    p99: float
    frames: int


class Stream:
    """Encode and decode a piece at a time, frame by frame, with the codec's latency.

    Codes and samples are those of the whole recording for any cutting into pieces. A codec that
    mirrors its first frames (EnCodec) gives nothing until `codec.first_frames` of them are there,
    then every frame as it comes. One that looks ahead (DAC) lags by as much (`stream.latency`).

    >>> stream = Stream(codec)
    >>> for piece in microphone:                 # samples [c t], any t
    ...     codes = stream.encode(piece)         # [k f], often no frame yet
    ...     loudspeaker.play(stream.decode(codes))
    >>> codes, samples = stream.finish()         # the rest: as many samples in all as went in

    Args:
        codec: one of finite `codec.latency`, or any with a `context`.
        codebooks: how many to use (all if None).
        block: frames a step. `codec.block` gives the arithmetic of `codec.encode`, to the bit, and
            its delay; 1 gives each frame at once, whose codes may differ in near-ties.
        context: seconds before and after each frame that are looked at, for a codec that needs the
            whole recording (`audiotok.runtime.windows`): what comes is not what the whole gives.

    Raises:
        ValueError: the codec needs the end of a recording before it begins, and no `context` is
            given; or one is given where none is needed.
    """

    def __init__(
        self,
        codec: RunnableCodec,
        *,
        codebooks: int | None = None,
        block: int = 1,
        context: float | None = None,
    ) -> None:
        bounded = math.isfinite(codec.latency)
        if bounded and context is not None:
            raise ValueError(f"codec {codec.name!r} streams exactly: no context is needed")
        if not bounded and context is None:
            raise ValueError(
                f"codec {codec.name!r} hears a recording to its end before it gives a code, so it"
                " cannot stream exactly; context=SECONDS (--context) lets it look at so much before"
                " and after each frame (`audiotok.runtime.windows.loss` measures what that costs)"
            )
        self.codec, self.codebooks, self.block, self.context = codec, codebooks, block, context
        self._times: dict[str, deque[tuple[float, int]]] = {}
        self.reset()

    def reset(self) -> None:
        """Begin a new conversation."""
        self._encoding: Encoding | WindowedEncoding
        self._decoding: Decoding | WindowedDecoding
        if self.context is None:
            self._encoding = Encoding(self.codec, codebooks=self.codebooks, block=self.block)
            self._decoding = Decoding(self.codec, block=self.block)
        else:
            frames = math.ceil(self.context * self.codec.frame_rate)
            self._encoding = WindowedEncoding(self.codec, frames, codebooks=self.codebooks)
            self._decoding = WindowedDecoding(self.codec, frames)
        self._times = {"encode": deque(maxlen=1000), "decode": deque(maxlen=1000)}

    # -- piece by piece ---------------------------------------------------------------------------

    def encode(self, samples: Tensor) -> Tensor:
        """Samples `[c t]` at the codec's rate to the codes `[k f]` that they complete."""
        begin = time.perf_counter()
        codes = self._encoding.push(samples[None])[0]
        self.timed("encode", time.perf_counter() - begin, codes.shape[1])
        return codes

    def finish_encode(self) -> Tensor:
        """The codes `[k f]` of what is left; the last frame is filled up with silence."""
        return self._encoding.finish()[0]

    def decode(self, codes: Tensor) -> Tensor:
        """Codes `[k f]` to the samples `[c t]` that they complete."""
        begin = time.perf_counter()
        samples = self._decoding.push(codes[None])[0]
        self.timed("decode", time.perf_counter() - begin, codes.shape[1])
        return samples

    def finish_decode(self, samples: int | None = None) -> Tensor:
        """The samples `[c t]` that are left.

        Args:
            samples: how many there are in all, where that is known: nothing is given past them. Up
                to the end of the last frame if None.
        """
        self._decoding.samples = samples
        return self._decoding.finish()[0]

    def finish(self) -> tuple[Tensor, Tensor]:
        """The codes `[k f]` and the samples `[c t]` that are left of a conversation whose every
        code was decoded: exactly as many samples in all as went in."""
        codes = self.finish_encode()
        self._decoding.samples = self._encoding.samples
        heard = [self._decoding.push(codes[None])[0], self._decoding.finish()[0]]
        return codes, torch.cat(heard, 1)

    # -- looking, leaving and coming back ---------------------------------------------------------

    @property
    def latency(self) -> Latency:
        """Algorithmic, and what computing the latest frames took, encoded and decoded."""
        took = [sum(pair) for pair in zip(*map(self._each, self._times), strict=False)]
        took = sorted(took or self._each("encode") or self._each("decode"))
        last = len(took) - 1
        p50, p99 = (took[round(q * last)] if took else math.nan for q in (0.5, 0.99))
        seconds = self.codec.latency
        if isinstance(self._encoding, WindowedEncoding):
            # A middle's codes wait for the context after it, decoding for the next middle and its.
            seconds = 3 * self._encoding.context / float(self.codec.frame_rate)
        return Latency(seconds, p50, p99, len(took))

    def _each(self, way: str) -> list[float]:
        return [seconds / frames for seconds, frames in self._times[way] for _ in range(frames)]

    def timed(self, way: str, seconds: float, frames: int) -> None:
        """Keep what so many frames took; pieces that complete none are part of the next."""
        times = self._times[way]
        if times and not times[-1][1]:
            seconds += times.pop()[0]
        times.append((seconds, frames))

    def passage(self, way: str, codec: RunnableCodec) -> Passage:
        """What encodes, or decodes, for `StreamBatch` to step.

        Raises:
            ValueError: it is another codec's, or goes in windows.
        """
        passage = self._encoding if way == "encode" else self._decoding
        if self.codec is not codec or not isinstance(passage, Passage):
            raise ValueError(
                f"a stream of {self.codec.name!r} with context {self.context} cannot step beside"
                f" others of {codec.name!r}: all must be of the same loaded codec, with no context"
            )
        return passage

    def snapshot(self) -> bytes:
        """All of its state, to go on from with `Stream.restore`, in another process too."""
        about = {"codebooks": self.codebooks, "block": self.block, "context": self.context}
        return snapshot.pack(self.codec, about, [self._encoding, self._decoding])

    @classmethod
    def restore(cls, codec: RunnableCodec, data: bytes) -> Stream:
        """The stream whose `snapshot` this is, on the codec's device.

        Raises:
            ValueError: damaged, or of another codec or other weights.
        """
        about, passages = snapshot.unpack(codec, data)
        stream = cls(codec, **about)
        snapshot.fill([stream._encoding, stream._decoding], passages)
        return stream


class StreamBatch:
    """Many streams of one codec that start and stop when they like: those that are ready step side
    by side, and each gets the codes it gets alone.

    >>> batch = StreamBatch(codec)
    >>> one, other = batch.open(), batch.open()
    >>> codes = batch.encode({one: piece, other: piece_of_other_length})
    >>> sound = batch.decode(codes)
    >>> rest = one.finish()                      # and `other` goes on

    Args:
        codec: one of finite `codec.latency`.
        codebooks: how many to use (all if None).
    """

    def __init__(self, codec: RunnableCodec, *, codebooks: int | None = None) -> None:
        self.codec, self.codebooks = codec, codebooks

    def open(self) -> Stream:
        """A new stream; any other `Stream` of the codec may step with it too."""
        return Stream(self.codec, codebooks=self.codebooks)

    def encode(self, pieces: Mapping[Stream, Tensor]) -> dict[Stream, Tensor]:
        """Samples `[c t]` of each stream to the codes `[k f]` that they complete."""
        return self._abreast("encode", pieces)

    def decode(self, codes: Mapping[Stream, Tensor]) -> dict[Stream, Tensor]:
        """Codes `[k f]` of each stream to the samples `[c t]` that they complete."""
        return self._abreast("decode", codes)

    def _abreast(self, way: str, pieces: Mapping[Stream, Tensor]) -> dict[Stream, Tensor]:
        begin = time.perf_counter()
        passages = [stream.passage(way, self.codec) for stream in pieces]
        made = abreast(passages, [piece[None] for piece in pieces.values()])
        seconds = time.perf_counter() - begin
        for (stream, x), y in zip(pieces.items(), made, strict=True):
            # A stream waits for the whole step, whoever else is in it.
            stream.timed(way, seconds, (y[0] if way == "encode" else x).shape[1])
        return {stream: y[0] for stream, y in zip(pieces, made, strict=True)}
