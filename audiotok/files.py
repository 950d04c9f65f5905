"""One file to another: audio to .tok and back, a block at a time, complete or not at all."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audiotok.audio import Audio, AudioFileError, Sink, open_audio
from audiotok.codecs.base import Codec
from audiotok.pieces import Decoding, Encoding
from audiotok.resample import Resampler
from audiotok.tokens import Tokens
from audiotok.tokfile import TokenReader, TokenWriter

SECONDS = 60  # of audio that decoding holds at a time


@dataclass(frozen=True)
class Made:
    """What came of one file."""

    source: str
    target: str
    seconds: float  # of audio
    frames: int
    codebooks: int  # of a stream
    streams: int  # channels that were coded apart
    nominal_kbps: float  # information in the codes
    file_kbps: float  # bytes of the .tok file, header and all
    took: float  # seconds of work

    def row(self) -> dict[str, Any]:
        """For `--json`, with `speed` in seconds of audio a second of work."""
        return {**asdict(self), "speed": round(self.seconds / max(self.took, 1e-9), 2)}


def encode_file(
    codec: Codec,
    source: str | Path,
    target: str | Path,
    *,
    codebooks: int | None = None,
    split: bool = False,
    force: bool = False,
) -> Made:
    """Encode an audio file ("-": stdin) of any length to a .tok file, in constant memory.

    The codes are, to the bit, those of `codec.encode(Audio.load(source))`.

    Raises:
        AudioFileError: the source cannot be read, or holds no samples.
        TokenFileError: the target exists and not `force`, or it cannot be written.
        ValueError: more codebooks or channels than the codec can take.
    """
    began = time.perf_counter()
    codebooks = codec.quantizer.check(codebooks)
    with open_audio(source) as audio:
        streams = codec.streams(audio.channels, split=split)
        mono = streams * codec.channels < audio.channels
        # An empty recording tells the writer all that the file's header says.
        empty = Audio(torch.zeros(codec.channels * streams, 0), audio.rate)
        header = codec.encode(empty, codebooks=codebooks, split=split).header
        runs = [Encoding(codec, codebooks=codebooks) for _ in range(streams)]
        with TokenWriter(target, header, force=force) as writer:
            for block in audio.blocks(rate=codec.sample_rate, mono=mono):
                waves = block.to(codec.device).split(codec.channels)
                pairs = zip(runs, waves, strict=True)
                writer.append(_rows([run.push(wave[None]) for run, wave in pairs]))
            samples, whole = runs[0].samples, runs[0].frames * codec.frame_size
            if not samples:
                raise AudioFileError(f"{audio.name}: holds no samples; there is nothing to encode")
            writer.append(
                _rows([run.finish() for run in runs]),
                samples=samples - whole,
                original_samples=audio.read - header.to_original(whole),
            )
    return _made(source, target, Path(target), began)


def decode_file(
    codec: Codec,
    source: str | Path,
    target: str | Path,
    *,
    codebooks: int | None = None,
    original_rate: bool = False,
    force: bool = False,
) -> Made:
    """Decode a .tok file of any length to an audio file, in constant memory.

    Args:
        codec: the codec that made the tokens.
        source: a .tok file.
        target: an audio file; its extension says the format.
        codebooks: use only the first so many of those in the file (all if None).
        original_rate: resample to the rate and length of the original recording.
        force: overwrite the target.

    Raises:
        WrongTokensError: another codec's, or other weights'.
        TokenFileError: the source is missing or damaged.
        AudioFileError: the target exists and not `force`, or it cannot be written.
    """
    began = time.perf_counter()
    with TokenReader(source) as reader:
        header = reader.header
        codec.check_tokens(header)
        back = original_rate and header.original_rate != codec.sample_rate
        rate = header.original_rate if back else codec.sample_rate
        length = reader.original_samples if back else reader.samples
        with Sink(target, rate, header.channels, force=force) as writer:
            pieces = _waves(codec, reader, codebooks)
            if back:
                pieces = _resampled(pieces, Resampler(codec.sample_rate, rate, header.channels))
            given = 0
            for piece in pieces:
                writer.write(piece[:, : length - given])
                given += piece.shape[1]
            # Rounding between rates may leave it a sample short.
            writer.write(torch.zeros(header.channels, max(0, length - given)))
    return _made(source, target, Path(source), began)


def _waves(codec: Codec, reader: TokenReader, codebooks: int | None) -> Iterator[Tensor]:
    """The decoded channels `[c t]` of the whole file, some frames at a time."""
    header = reader.header
    rows = len(header.sizes)
    keep = rows if codebooks is None else min(rows, codec.quantizer.check(codebooks))
    runs = [Decoding(codec, samples=reader.samples) for _ in range(header.streams)]
    step = SECONDS * codec.sample_rate // codec.frame_size
    for first in range(0, reader.frames, step):
        codes = torch.from_numpy(reader.read(first, min(first + step, reader.frames)))
        streams = codes.to(codec.device).split(rows)
        made = [run.push(s[None, :keep]) for run, s in zip(runs, streams, strict=True)]
        yield torch.cat(made, 1)[0].cpu()
    yield torch.cat([run.finish() for run in runs], 1)[0].cpu()


def _resampled(pieces: Iterator[Tensor], resampler: Resampler) -> Iterator[Tensor]:
    for piece in pieces:
        yield resampler.step(piece)
    yield resampler.finish()


def _rows(codes: list[Tensor]) -> np.ndarray:
    """Codes of each stream `[1 k f]`, stacked as a .tok file has them."""
    return torch.cat(codes, 1)[0].cpu().numpy()


def _made(source: str | Path, target: str | Path, tokens: Path, began: float) -> Made:
    took = time.perf_counter() - began
    with TokenReader(tokens) as reader:
        seconds = reader.samples / reader.header.sample_rate
        nothing = Tokens.load(tokens, start=0, end=0)
        return Made(
            source=str(source),
            target=str(target),
            seconds=seconds,
            frames=reader.frames,
            codebooks=nothing.codebooks,
            streams=nothing.streams,
            nominal_kbps=round(nothing.kbps, 4),
            file_kbps=round(tokens.stat().st_size * 8 / 1000 / max(seconds, 1e-9), 4),
            took=took,
        )
