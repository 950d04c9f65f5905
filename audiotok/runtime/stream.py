"""Streaming with a codec: `Stream` is one conversation, `StreamBatch` runs many together.

A stream holds all state, so one codec serves any number of streams and threads.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, cast

import numpy as np

from audiotok._platform.errors import InputError, InputTypeError
from audiotok.audio.coerce import Samples, is_samples, to_channels
from audiotok.runtime import snapshot
from audiotok.runtime.base import A, RunnableCodec
from audiotok.runtime.batching import step_together
from audiotok.runtime.session import CodingSession
from audiotok.runtime.sessions import Decoding, Encoding
from audiotok.runtime.windows import WindowedDecoding, WindowedEncoding
from audiotok.tokens.codebooks import check_frames, check_range
from audiotok.tokens.coded import Coded
from audiotok.tokens.tokenizer import TokensLike

if TYPE_CHECKING:
    from audiotok.audio.audio import Audio


@dataclass(frozen=True)
class Latency:
    """Latency of decoded audio, in seconds.

    Attributes:
        algorithmic: longest time from the arrival of a sample to its decoded value, without
            computation.
        p50: median time to compute a frame; nan before the first.
        p99: 99th percentile of the time to compute a frame; nan before the first.
        frames: number of recent frames that these are taken over.
    """

    algorithmic: float
    p50: float
    p99: float
    frames: int


class Stream(Generic[A]):
    """Encode and decode in pieces, frame by frame, with the codec's latency.

    Codes and samples are those of the whole recording, however it is cut into pieces. A codec that
    mirrors its first frames (EnCodec) returns nothing until `codec.first_frames` of them have
    arrived, then every frame as it arrives. A codec with look-ahead (DAC) lags by as much
    (`stream.latency`).

    >>> stream = Stream(codec)
    >>> for piece in microphone:                 # samples [c t], any t
    ...     codes = stream.encode(piece)         # [k f], often no frame yet
    ...     loudspeaker.play(stream.decode(codes))
    >>> codes, samples = stream.finish()         # the rest: as many samples in all as went in

    Args:
        codec: codec whose `latency` is finite, or any codec with a `context`.
        codebooks: number of codebooks to use, from the first (all if None).
        block: frames per step. `codec.block` has the arithmetic of `codec.encode`, to the bit, and
            its delay; 1 returns each frame at once, whose codes may differ in near-ties.
        context: seconds before and after each frame that the codec sees, for a codec that needs the
            whole recording (`audiotok.runtime.windows`): the result is an approximation.

    Raises:
        ValueError: the codec needs the whole recording and `context` is None, or `context` is given
            for a codec that does not.
    """

    def __init__(
        self,
        codec: RunnableCodec[A],
        *,
        codebooks: int | None = None,
        block: int = 1,
        context: float | None = None,
    ) -> None:
        bounded = math.isfinite(codec.latency)
        if bounded and context is not None:
            raise InputError(f"codec {codec.name!r} streams exactly: no context is needed")
        if not bounded and context is None:
            gives = "latent" if codec.width else "code"
            what = f"codec {codec.name!r} hears a recording to its end before it gives a {gives}"
            if codec.decodes_only:
                what = f"decoder {codec.name!r} takes all tokens before it gives a sample"
            raise InputError(
                f"{what}, so it cannot stream exactly; context=SECONDS lets it look at"
                " so much before and after each frame (`audiotok.runtime.windows.loss` measures"
                " what that costs)"
            )
        self.codec = codec
        self.executor = codec.executor
        if bounded and not self.executor.plan.steps:
            raise InputError(
                f"this export of {codec.name} has no steps, so it cannot stream: export it again"
                " with rings=True"
            )
        self.codebooks = codec.kept(codebooks)
        self.block = block
        self.context = context
        self._times: dict[str, deque[tuple[float, int]]] = {}
        self.reset()

    def reset(self) -> None:
        """Start a new conversation."""
        self._encoding: Encoding[A] | WindowedEncoding[A]
        self._decoding: Decoding[A] | WindowedDecoding[A]
        if self.context is None:
            self._encoding = Encoding(self.executor, codebooks=self.codebooks, block=self.block)
            self._decoding = Decoding(self.executor, block=self.block)
        else:
            frames = math.ceil(self.context * self.codec.frame_rate)
            self._encoding = WindowedEncoding(self.executor, frames, codebooks=self.codebooks)
            self._decoding = WindowedDecoding(self.executor, frames)
        self._times = {"encode": deque(maxlen=1000), "decode": deque(maxlen=1000)}

    # -- encode and decode ------------------------------------------------------------------------

    def encode(self, samples: Samples | Audio) -> A:
        """Encode a further piece to the codes `[k f]` that it completes.

        Args:
            samples: array or tensor `[c t]` or `[t]` at the codec's rate, of floats with full scale
                1, or of integers of 8, 16 or 32 bits; or `Audio` of that rate.

        Raises:
            TypeError: none of these.
            ValueError: another rate, or another number of channels than the codec's; samples of
                another shape or type, NaN or infinite.
        """
        begin = time.perf_counter()
        codes: Any = self._encoding.push(self.piece(samples))
        codes = codes[0]
        self.timed("encode", time.perf_counter() - begin, codes.shape[1])
        return codes

    def finish_encode(self) -> A:
        """Return the remaining codes `[k f]`; the last frame is filled up with silence."""
        codes: Any = self._encoding.finish()
        return codes[0]

    def decode(self, codes: TokensLike) -> A:
        """Decode further codes to the samples `[c t]` that they complete.

        Args:
            codes: array or tensor `[k f]` of integers, or `[d f]` of latents; or `Tokens` or
                `Latents` of the codec.

        Raises:
            TypeError: neither.
            ValueError: codes of another shape or type, or that their codebook does not have.
            WrongTokensError: tokens of another codec, or of other weights.
            NoDecoderError: the codec has no decoder.
        """
        self.codec.check_decodes()
        begin = time.perf_counter()
        x: Any = self.codes(codes)
        samples: Any = self._decoding.push(x)
        self.timed("decode", time.perf_counter() - begin, x.shape[2])
        return samples[0]

    def finish_decode(self, samples: int | None = None) -> A:
        """Return the remaining samples `[c t]`.

        Args:
            samples: total number of samples where it is known, after which the output ends; if
                None, it ends with the last frame.
        """
        self._decoding.samples = samples
        rest: Any = self._decoding.finish()
        return rest[0]

    def finish(self) -> tuple[A, A]:
        """Return the remaining codes `[k f]` and samples `[c t]` of a conversation.

        All codes so far must have been decoded. The total number of samples out is that of samples
        in, at the rate that the codec decodes to.
        """
        codes: Any = self.finish_encode()
        self._decoding.samples = self.codec.decoded_samples(self._encoding.samples)
        parts = [self._decoding.push(codes[None]), self._decoding.finish()]
        samples: Any = self.executor.join(parts, 2)
        return codes, samples[0]

    def piece(self, samples: Samples | Audio) -> A:
        """Return a piece as `encode` takes it, checked, as `[1 c t]` of the codec's executor."""
        codec, given = self.codec, cast("Any", samples)
        if hasattr(given, "rate"):  # Audio
            if given.rate != codec.sample_rate:
                raise InputError(
                    f"a piece of {given.rate} Hz, where {codec.name!r} codes {codec.sample_rate}:"
                    " resample the whole (audio.resample), or read the file in blocks at that rate"
                )
            given = given.samples
        if not is_samples(given):
            kind = type(given).__name__
            raise InputTypeError(
                f"a piece is an array or tensor [channels t], or Audio, not {kind}"
            )
        x: Any = to_channels(given)  # of an array, a copy
        x = x if isinstance(x, np.ndarray) else x.clone()  # the caller may fill it again
        if len(x) != codec.channels:
            raise InputError(
                f"a piece of {len(x)} channels, where {codec.name!r} codes {codec.channels}: mix "
                "them down, or open a stream for each"
            )
        return self.executor.array(x[None])

    def codes(self, codes: TokensLike) -> A:
        """Return codes as `decode` takes them, checked, as `[1 k f]` of the codec's executor."""
        rows: Any = codes
        if isinstance(codes, Coded):
            self.codec.check_tokens(codes)
            rows = codes.numbers
        width = self.codec.width
        check_frames(rows, self.codec.codebooks, width)
        check_range(rows, self.codec.sizes[: len(rows)])
        # A copy, since the caller may fill its array again.
        if isinstance(rows, np.ndarray):
            rows = rows.astype(np.float32 if width else np.int64)
        else:
            rows = (rows.float() if width else rows.long()).clone()
        return self.executor.array(rows[None])

    # -- latency and snapshots --------------------------------------------------------------------

    @property
    def latency(self) -> Latency:
        """Algorithmic latency, and computation times of recent frames, encoded and decoded."""
        took = [sum(pair) for pair in zip(*map(self._each, self._times), strict=False)]
        took = sorted(took or self._each("encode") or self._each("decode"))
        last = len(took) - 1
        p50, p99 = (took[round(q * last)] if took else math.nan for q in (0.5, 0.99))
        seconds = self.codec.latency
        if isinstance(self._encoding, WindowedEncoding):
            # The codes of a middle wait for one context; decoding waits for two more.
            seconds = 3 * self._encoding.context / float(self.codec.frame_rate)
        return Latency(seconds, p50, p99, len(took))

    def _each(self, direction: str) -> list[float]:
        times = self._times[direction]
        return [seconds / frames for seconds, frames in times for _ in range(frames)]

    def timed(self, direction: str, seconds: float, frames: int) -> None:
        """Record the computation time of frames.

        The time of a piece that completes no frame is added to that of the next piece.

        Args:
            direction: "encode" or "decode".
            seconds: computation time.
            frames: number of frames that were completed.
        """
        times = self._times[direction]
        if times and not times[-1][1]:
            seconds += times.pop()[0]
        times.append((seconds, frames))

    def session(self, direction: str, codec: RunnableCodec[A]) -> CodingSession[A]:
        """Return the session that encodes or decodes, for `StreamBatch`.

        Args:
            direction: "encode" or "decode".
            codec: codec that the stream must have.

        Raises:
            ValueError: the stream is of another codec, or runs in windows.
        """
        session = self._encoding if direction == "encode" else self._decoding
        if self.codec is not codec or not isinstance(session, CodingSession):
            raise InputError(
                f"a stream of {self.codec.name!r} with context {self.context} cannot step beside"
                f" others of {codec.name!r}: all must be of the same loaded codec, with no context"
            )
        return session

    def __repr__(self) -> str:
        codec = self.codec
        rates = f"{codec.sample_rate} Hz, {float(codec.frame_rate):g} frames/s"
        books = codec.kept(self.codebooks)
        holds = f"latents of {codec.width}" if codec.width else f"{books} codebooks"
        return (
            f"<Stream of {codec.name}: {rates}, {holds}, "
            f"{self.block} frames a step, latency {1000 * self.latency.algorithmic:.0f} ms>"
        )

    def snapshot(self) -> bytes:
        """Return the whole state as bytes for `Stream.restore`, in this or another process."""
        options = {"codebooks": self.codebooks, "block": self.block, "context": self.context}
        return snapshot.pack(self.codec, options, [self._encoding, self._decoding])

    @classmethod
    def restore(cls, codec: RunnableCodec[A], data: bytes) -> Stream[A]:
        """Create a stream from the result of `snapshot`, on the codec's device.

        Args:
            codec: codec of the stream.
            data: result of `snapshot`.

        Raises:
            ValueError: the data are damaged, or of another codec or other weights.
        """
        options, sessions = snapshot.unpack(codec, data)
        stream = cls(codec, **options)
        snapshot.fill([stream._encoding, stream._decoding], sessions)
        return stream


class StreamBatch(Generic[A]):
    """Continuous batching of streams of one codec, which start and stop at any time.

    Streams that are ready take a step together, and each gets the codes that it gets alone.

    >>> batch = StreamBatch(codec)
    >>> one, other = batch.open(), batch.open()
    >>> codes = batch.encode({one: piece, other: piece_of_other_length})
    >>> sound = batch.decode(codes)
    >>> rest = one.finish()                      # and `other` goes on

    Args:
        codec: codec whose `latency` is finite, or any codec with a `context`.
        codebooks: number of codebooks to use, from the first (all if None).
        context: as of `Stream`; windows are coded one by one.
    """

    def __init__(
        self,
        codec: RunnableCodec[A],
        *,
        codebooks: int | None = None,
        context: float | None = None,
    ) -> None:
        self.codec = codec
        self.codebooks = codebooks
        self.context = context

    def open(self, *, block: int = 1) -> Stream[A]:
        """Start a stream; any other `Stream` of the codec may step with it too.

        Args:
            block: frames per step, as of `Stream`; streams of as many step together.
        """
        block = block if self.context is None else 1  # windows have one size
        return Stream(self.codec, codebooks=self.codebooks, block=block, context=self.context)

    @property
    def latency(self) -> float:
        """Algorithmic latency of a stream in seconds."""
        return self.open().latency.algorithmic

    def encode(self, pieces: Mapping[Stream[A], Samples | Audio]) -> dict[Stream[A], A]:
        """Encode a piece of each stream to the codes `[k f]` that it completes; see `Stream`."""
        checked = {stream: stream.piece(piece) for stream, piece in pieces.items()}
        return self._step_together("encode", checked)

    def decode(self, codes: Mapping[Stream[A], TokensLike]) -> dict[Stream[A], A]:
        """Decode codes of each stream to the samples `[c t]` that they complete; see `Stream`."""
        checked = {stream: stream.codes(rows) for stream, rows in codes.items()}
        return self._step_together("decode", checked)

    def _step_together(self, direction: str, pieces: Mapping[Stream[A], Any]) -> dict[Stream[A], A]:
        if self.context is not None:
            return {s: getattr(s, direction)(x[0]) for s, x in pieces.items()}
        begin = time.perf_counter()
        sessions = [stream.session(direction, self.codec) for stream in pieces]
        outputs: list[Any] = step_together(sessions, list(pieces.values()))
        seconds = time.perf_counter() - begin
        for (stream, x), y in zip(pieces.items(), outputs, strict=True):
            # Each stream waits for the whole step, so that its time counts for all of them.
            stream.timed(direction, seconds, (y if direction == "encode" else x).shape[2])
        return {stream: y[0] for stream, y in zip(pieces, outputs, strict=True)}
