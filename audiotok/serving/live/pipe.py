"""A pipe of audio to a pipe of tokens and back, frame by frame, with what each frame took."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from io import BufferedIOBase
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from audiotok.audio.pcm import PcmReader, to_bytes
from audiotok.audio.resample import ROLLOFF, ZERO_CROSSINGS, Resampler
from audiotok.codecs.models.base import Codec
from audiotok.runtime.stream import Stream
from audiotok.serving.live.latency import Spread, Times
from audiotok.tokens import Header, TokenSink, TokenSource

REACH = ZERO_CROSSINGS / ROLLOFF  # samples of the lower rate that a resampler looks ahead


@dataclass(frozen=True, kw_only=True)
class Passed:
    """What went through a pipe."""

    codec: str
    seconds: float  # of audio
    frames: int
    frame_seconds: float  # of audio in a frame
    nominal_kbps: float
    stream_kbps: float  # what was written or read, header and all
    latency: float  # seconds, algorithmic, resampling included
    took: Spread  # to compute a frame

    def row(self) -> dict[str, Any]:
        """For `--json`."""
        row = {k: v for k, v in vars(self).items() if k != "took"}
        return row | {"frame": self.took.row()}


def header_of(codec: Codec, *, codebooks: int | None, rate: int) -> Header:
    """What a stream of this codec's tokens begins with.

    Args:
        codec: what encodes.
        codebooks: of it (all if None).
        rate: Hz of what comes in.

    Raises:
        ValueError: more codebooks than there are.
    """
    return Header(
        codec=codec.name,
        fingerprint=codec.fingerprint,
        sizes=codec.sizes[: codec.quantizer.check(codebooks)],
        sample_rate=codec.sample_rate,
        frame_size=codec.frame_size,
        original_rate=rate,
        channels=codec.channels,
    )


def encode_pcm(
    codec: Codec,
    source: BufferedIOBase,
    out: BufferedIOBase,
    *,
    rate: int | None = None,
    encoding: str = "s16le",
    codebooks: int | None = None,
    block: int = 1,
    context: float | None = None,
    around: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Passed:
    """Raw PCM to a .tok file, each frame written when its last sample has come.

    An interrupt ends the recording there: what has come is encoded, the stream is complete, and
    KeyboardInterrupt goes on.

    Args:
        codec: what encodes; channels are the codec's.
        source: raw PCM, interleaved.
        out: a pipe.
        rate: Hz of the PCM; the codec's if None.
        encoding: a key of `pcm.FORMATS`.
        codebooks: how many to use (all if None).
        block: frames written at once.
        context: as of `Stream`, for a codec that needs the whole recording.
        around: entered while it waits for PCM.

    Raises:
        ValueError: a codec that cannot stream; PCM that is not what it was said to be.
    """
    rate = rate or codec.sample_rate
    stream, times = Stream(codec, codebooks=codebooks, context=context), Times()
    resampler = _resampler(rate, codec.sample_rate, codec.channels)
    reader = PcmReader(source, encoding, channels=codec.channels, rate=rate, around=around)
    sink = TokenSink(out, header_of(codec, codebooks=codebooks, rate=rate), block=block)
    samples = 0

    def push(piece: Tensor) -> None:
        nonlocal samples
        samples += piece.shape[1]
        for part in piece.split(codec.frame_size, 1):
            start = perf_counter()
            codes = stream.encode(part)
            if codes.shape[1]:
                times.add((perf_counter() - start) / codes.shape[1])
                sink.append(codes.numpy())

    interrupted = False
    try:
        for piece in reader:
            push(resampler.step(torch.from_numpy(piece)))
    except KeyboardInterrupt:
        interrupted = True
    push(resampler.finish())
    sink.append(stream.finish_encode().numpy())
    sink.finish(samples, reader.samples)
    if interrupted:
        raise KeyboardInterrupt
    return _passed(codec, sink.header, samples, sink.frames, sink.bytes, rate, stream, times)


def decode_pcm(
    codec: Codec,
    source: TokenSource,
    out: BufferedIOBase,
    *,
    rate: int | None = None,
    encoding: str = "s16le",
    codebooks: int | None = None,
    context: float | None = None,
) -> Passed:
    """Tokens of a pipe to raw PCM, each frame written when it is decoded.

    Exactly as many samples as were encoded, also at the rate they had.

    Args:
        codec: what decodes.
        source: tokens, of this codec.
        out: a pipe.
        rate: Hz of the PCM; the codec's if None.
        encoding: a key of `pcm.FORMATS`.
        codebooks: of those that come, how many to use (all if None).
        context: as of `Stream`.

    Raises:
        WrongTokensError: another codec's tokens.
        TokenFileDamagedError: they are damaged or cut short; what came before is written.
    """
    codec.check_tokens(source.header)
    if source.header.streams > 1:
        raise ValueError(f"{source.name}: channels that were coded apart: use `audiotok decode`")
    rate = rate or codec.sample_rate
    stream, times = Stream(codec, context=context), Times()
    resampler = _resampler(codec.sample_rate, rate, codec.channels)
    given, frames = 0, 0
    # Of the last frame one sample may be all that there was. Which is the last shows at the end, so
    # what may lie past it waits for the next frame.
    held, heard, late = torch.zeros(codec.channels, 0), 0, 0

    def give(samples: Tensor, most: int | None = None) -> None:
        nonlocal given
        samples = samples if most is None else samples[:, : max(0, most - given)]
        given += samples.shape[1]
        out.write(to_bytes(samples.numpy(), encoding))
        out.flush()

    for codes in source.blocks():
        for frame in torch.from_numpy(codes[:codebooks]).split(1, 1):
            start = perf_counter()
            held = torch.cat([held, stream.decode(frame)], 1)
            times.add(perf_counter() - start)
            sure = max(0, frames * codec.frame_size + 1 - heard)
            frames += 1
            now, held = held[:, :sure], held[:, sure:]
            heard, late = heard + now.shape[1], max(late, held.shape[1])
            if now.shape[1]:
                give(resampler.step(now))
    rest = torch.cat([held, stream.finish_decode()], 1)
    give(resampler.step(rest[:, : source.samples - heard]))
    exact = source.original_samples if rate == source.header.original_rate else None
    give(resampler.finish(), exact)
    return _passed(
        codec, source.header, source.samples, source.frames, source.bytes, rate, stream, times, late
    )


def _resampler(old: int, new: int, channels: int) -> Resampler:
    """One that waits for 10 ms at most, and for what its filter reaches."""
    return Resampler(old, new, channels, block=max(1, old // 100))


def _passed(
    codec: Codec,
    header: Header,
    samples: int,
    frames: int,
    size: int,
    rate: int,
    stream: Stream,
    times: Times,
    late: int = 0,
) -> Passed:
    seconds = samples / codec.sample_rate
    bits = sum(map(math.log2, header.sizes)) * float(codec.frame_rate)
    resampling = 0.0 if rate == codec.sample_rate else 0.01 + REACH / min(rate, codec.sample_rate)
    return Passed(
        codec=codec.name,
        seconds=seconds,
        frames=frames,
        frame_seconds=codec.frame_size / codec.sample_rate,
        nominal_kbps=bits / 1000,
        stream_kbps=size * 8 / max(seconds, 1e-9) / 1000,
        latency=stream.latency.algorithmic + resampling + late / codec.sample_rate,
        took=times.spread(),
    )
