"""Pipes of audio to pipes of tokens and back, frame by frame, with the time of each frame."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from io import BufferedIOBase
from time import perf_counter
from typing import Any

import numpy as np

from audiotok._platform.errors import InputError
from audiotok.audio.pcm import PcmReader, to_bytes
from audiotok.audio.resample_numpy import ROLLOFF, ZERO_CROSSINGS, NumpyResampler
from audiotok.runtime.base import RunnableCodec
from audiotok.runtime.stream import Stream
from audiotok.serving.live.latency import Spread, Times
from audiotok.tokens import Header, TokenSink, TokenSource

LOOK_AHEAD = ZERO_CROSSINGS / ROLLOFF  # samples of the lower rate that a resampler looks ahead


@dataclass(frozen=True, kw_only=True)
class PipeSummary:
    """Summary of the audio that went through a pipe."""

    codec: str
    seconds: float  # length of the audio
    frames: int
    frame_seconds: float  # length of a frame
    nominal_kbps: float
    stream_kbps: float  # bitrate of the stream with its header
    latency: float  # seconds, algorithmic, resampling included
    took: Spread  # seconds to compute a frame

    def row(self) -> dict[str, Any]:
        """Return the summary as plain data."""
        row = {k: v for k, v in vars(self).items() if k != "took"}
        return row | {"frame": self.took.row()}


def header_of(
    codec: RunnableCodec[Any], *, codebooks: int | None, rate: int, half: bool = False
) -> Header:
    """Return the header of a stream of a codec's tokens.

    Args:
        codec: the codec.
        codebooks: number of codebooks, from the first; all if None.
        rate: sample rate of the input in Hz.
        half: whether latents are stored in half precision.

    Raises:
        ValueError: the codec has fewer codebooks.
    """
    return codec.header(rate, streams=1, codebooks=codec.kept(codebooks), half=half)


def encode_pcm(
    codec: RunnableCodec[Any],
    source: BufferedIOBase,
    out: BufferedIOBase,
    *,
    rate: int | None = None,
    encoding: str = "s16le",
    codebooks: int | None = None,
    block: int = 1,
    half: bool = False,
    context: float | None = None,
    around: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> PipeSummary:
    """Encode raw PCM to a .tok file, writing each frame when its last sample has arrived.

    An interrupt ends the recording: the samples so far are encoded, the stream is completed, and
    KeyboardInterrupt is raised again.

    Args:
        codec: the codec, whose channels the PCM must have.
        source: raw PCM, interleaved.
        out: file or pipe for the tokens.
        rate: sample rate of the PCM in Hz; the codec's if None.
        encoding: a key of `pcm.FORMATS`.
        codebooks: number of codebooks to use; all if None.
        block: frames written at once.
        half: whether latents are stored in half precision.
        context: as of `Stream`, for a codec that needs the whole recording.
        around: makes the context that is entered while waiting for PCM.

    Raises:
        ValueError: the codec cannot stream, the PCM is malformed, or a latent is beyond half
            precision.
    """
    rate = rate or codec.sample_rate
    stream, times = Stream(codec, codebooks=codebooks, context=context), Times()
    resampler = _resampler(rate, codec.sample_rate, codec.channels)
    reader = PcmReader(source, encoding, channels=codec.channels, rate=rate, around=around)
    sink = TokenSink(out, header_of(codec, codebooks=codebooks, rate=rate, half=half), block=block)
    samples, numpy = 0, codec.executor.numpy

    def append(codes: np.ndarray) -> None:
        try:
            sink.append(codes)
        except InputError as error:
            raise InputError(f"{reader.name}: {error}") from None

    def push(piece: np.ndarray) -> None:
        nonlocal samples
        samples += piece.shape[1]
        for at in range(0, piece.shape[1], codec.frame_size):
            part = piece[:, at : at + codec.frame_size]
            start = perf_counter()
            codes = numpy(stream.encode(part))
            if codes.shape[1]:
                times.add((perf_counter() - start) / codes.shape[1])
                append(codes)

    interrupted = False
    try:
        for piece in reader:
            push(resampler.step(piece))
    except KeyboardInterrupt:
        interrupted = True
    push(resampler.finish())
    append(numpy(stream.finish_encode()))
    sink.finish(samples, reader.samples)
    if interrupted:
        raise KeyboardInterrupt
    rates = codec.sample_rate, rate
    return _passed(codec, sink.header, samples, sink.frames, sink.bytes, rates, stream, times)


def decode_pcm(
    codec: RunnableCodec[Any],
    source: TokenSource,
    out: BufferedIOBase,
    *,
    rate: int | None = None,
    encoding: str = "s16le",
    codebooks: int | None = None,
    context: float | None = None,
) -> PipeSummary:
    """Decode tokens of a pipe to raw PCM, writing each frame when it is decoded.

    The PCM has exactly as many samples as were encoded, also at their original rate.

    Args:
        codec: the codec.
        source: tokens of this codec.
        out: file or pipe for the PCM.
        rate: sample rate of the PCM in Hz; that to which the codec decodes if None.
        encoding: a key of `pcm.FORMATS`.
        codebooks: number of codebooks to use of those in the source; all if None.
        context: as of `Stream`.

    Raises:
        InputError: the channels were coded apart.
        WrongTokensError: the tokens are of another codec.
        TokenFileDamagedError: the tokens are damaged or cut short; the PCM before that is written.
    """
    codec.check_tokens(source.header)
    if source.header.streams > 1:
        raise InputError(f"{source.name}: channels that were coded apart: use `audiotok decode`")
    rate = rate or codec.decoded_rate
    stream, times = Stream(codec, context=context), Times()
    resampler = _resampler(codec.decoded_rate, rate, codec.channels)
    written, frames = 0, 0
    # The last frame may hold a single sample of the recording. Which frame is the last is known at
    # the end only, so the samples after the first of each frame wait for the next frame.
    pending, resampled, most_pending = np.zeros((codec.channels, 0), np.float32), 0, 0
    numpy = codec.executor.numpy

    def give(samples: np.ndarray, most: int | None = None) -> None:
        nonlocal written
        samples = samples if most is None else samples[:, : max(0, most - written)]
        written += samples.shape[1]
        out.write(to_bytes(samples, encoding))
        out.flush()

    for codes in source.blocks():
        for at in range(codes.shape[1]):
            start = perf_counter()
            decoded = numpy(stream.decode(codes[:codebooks, at : at + 1]))
            pending = np.concatenate([pending, decoded], 1)
            times.add(perf_counter() - start)
            certain = max(0, codec.decoded_samples(frames * codec.frame_size + 1) - resampled)
            frames += 1
            now, pending = pending[:, :certain], pending[:, certain:]
            resampled, most_pending = resampled + now.shape[1], max(most_pending, pending.shape[1])
            if now.shape[1]:
                give(resampler.step(now))
    rest = np.concatenate([pending, numpy(stream.finish_decode())], 1)
    give(resampler.step(rest[:, : codec.decoded_samples(source.samples) - resampled]))
    exact = source.original_samples if rate == source.header.original_rate else None
    give(resampler.finish(), exact)
    return _passed(
        codec,
        source.header,
        source.samples,
        source.frames,
        source.bytes,
        (codec.decoded_rate, rate),
        stream,
        times,
        most_pending,
    )


def _resampler(old: int, new: int, channels: int) -> NumpyResampler:
    """Return a resampler that waits for at most 10 ms, and for its filter's look-ahead."""
    return NumpyResampler(old, new, channels, block=max(1, old // 100))


def _passed(
    codec: RunnableCodec[Any],
    header: Header,
    samples: int,
    frames: int,
    size: int,
    rates: tuple[int, int],
    stream: Stream[Any],
    times: Times,
    pending: int = 0,
) -> PipeSummary:
    seconds = samples / codec.sample_rate
    own, other = rates  # of the codec and of the pipe
    resampling = 0.0 if own == other else 0.01 + LOOK_AHEAD / min(rates)
    return PipeSummary(
        codec=codec.name,
        seconds=seconds,
        frames=frames,
        frame_seconds=codec.frame_size / codec.sample_rate,
        nominal_kbps=header.kbps,
        stream_kbps=size * 8 / max(seconds, 1e-9) / 1000,
        latency=stream.latency.algorithmic + resampling + pending / own,
        took=times.spread(),
    )
