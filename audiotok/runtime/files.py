"""One file to another: audio to .tok and back, a block at a time, complete or not at all."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

from audiotok.audio.decoders import AudioFileError
from audiotok.audio.reader import open_audio, resampled
from audiotok.audio.writer import Sink
from audiotok.runtime.arrays import decoding, encoding
from audiotok.runtime.exported import Exported
from audiotok.tokens import (
    Header,
    TokenFileDamagedError,
    TokenFileExistsError,
    TokenReader,
    TokenWriter,
)
from audiotok.tokens.tokens import Tokens

if TYPE_CHECKING:
    from audiotok.runtime.base import RunnableCodec
    from audiotok.tokens.tokenizer import Tokenizer

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
    file_kbps: float | None  # bytes of the .tok file, header and all; None: no audio in it
    took: float  # seconds of work

    def row(self) -> dict[str, Any]:
        """For `--json`, with `speed` in seconds of audio a second of work."""
        return {**asdict(self), "speed": round(self.seconds / max(self.took, 1e-9), 2)}


def encode_file(
    codec: RunnableCodec | Exported,
    source: str | Path,
    target: str | Path,
    *,
    codebooks: int | None = None,
    split: bool = False,
    force: bool = False,
) -> Made:
    """Encode an audio file ("-": stdin) of any length to a .tok file, in constant memory.

    The codes are, to the bit, those of `codec.encode(Audio.load(source))`. Folders above the
    target are made.

    Raises:
        AudioFileError: the source cannot be read, or holds no samples.
        TokenFileError: the target exists and not `force`, or it cannot be written.
        ValueError: more codebooks or channels than the codec can take.
    """
    began = time.perf_counter()
    codebooks = codec.kept(codebooks)
    with open_audio(source) as audio:
        streams = codec.streams(audio.channels, split=split)
        mono = streams * codec.channels < audio.channels
        header = codec.header(audio.rate, streams=streams, codebooks=codebooks)
        runs = [encoding(codec, codebooks) for _ in range(streams)]
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        with TokenWriter(target, header, force=force) as writer:
            for block in audio.arrays(rate=codec.sample_rate, mono=mono):
                pairs = zip(runs, np.split(block, streams), strict=True)
                writer.append(_rows([run.push(wave[None]) for run, wave in pairs]))
            samples, whole = runs[0].samples, runs[0].frames * codec.frame_size
            if not samples:
                raise AudioFileError(f"{audio.name}: holds no samples; record it again")
            writer.append(
                _rows([run.finish() for run in runs]),
                samples=samples - whole,
                original_samples=audio.read - header.to_original(whole),
            )
    return _made(source, target, Path(target), began)


def decode_file(
    codec: RunnableCodec | Exported,
    source: str | Path,
    target: str | Path,
    *,
    codebooks: int | None = None,
    original_rate: bool = False,
    force: bool = False,
) -> Made:
    """Decode a .tok file of any length to an audio file, in constant memory.

    Folders above the target are made.

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
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        comment = _comment(codec, header, codebooks)
        with Sink(target, rate, header.channels, force=force, comment=comment) as writer:
            pieces = _waves(codec, reader, codebooks)
            if back:
                pieces = resampled(pieces, codec.sample_rate, rate, header.channels)
            given = 0
            for piece in pieces:
                writer.write(piece[:, : length - given])
                given += piece.shape[1]
            # Rounding between rates may leave it a sample short.
            writer.write(np.zeros((header.channels, max(0, length - given)), np.float32))
    return _made(source, target, Path(source), began)


def is_encoded(
    codec: RunnableCodec | Exported,
    source: str | Path,
    target: str | Path,
    *,
    codebooks: int | None = None,
    split: bool = False,
) -> bool:
    """Whether the target is there and is what `encode_file` would make with these options.

    Raises:
        TokenFileError: something else is there.
    """
    target = Path(target)
    if not target.exists():
        return False
    try:
        with TokenReader(target) as reader:
            header = reader.header
    except TokenFileDamagedError as error:
        raise TokenFileExistsError(f"{error}; --force overwrites it") from None
    kept = codec.kept(codebooks)
    same = header.codec == codec.name and codec.has_codes_of(header.fingerprint)
    apart = header.streams > 1
    if not same or len(header.sizes) != kept:
        made = f"made by {header.codec} {header.fingerprint} with {len(header.sizes)} codebooks"
    elif apart != split and (apart or _channels(source) > codec.channels):
        made = f"with channels {'split' if apart else 'mixed'}"
    else:
        return True
    raise TokenFileExistsError(f"{target}: exists already, {made}; --force overwrites it")


def _channels(source: str | Path) -> int:
    with open_audio(source) as audio:
        return audio.channels


def is_decoded(
    codec: Tokenizer,
    source: str | Path,
    target: str | Path,
    *,
    codebooks: int | None = None,
    original_rate: bool = False,
) -> bool:
    """Whether the target is there and is what `decode_file` would make with these options.

    Raises:
        AudioFileError: something else is there, or a format that cannot say what it is of.
    """
    target = Path(target)
    if not target.exists():
        return False
    with TokenReader(source) as reader:
        header = reader.header
        rate = header.original_rate if original_rate else header.sample_rate
        length = reader.original_samples if original_rate else reader.samples
    with suppress(OSError, soundfile.LibsndfileError), soundfile.SoundFile(target) as file:
        same = (file.samplerate, file.frames, file.comment) == (
            rate,
            length,
            _comment(codec, header, codebooks),
        )
        if same and target.stat().st_mtime >= Path(source).stat().st_mtime:
            return True
    raise AudioFileError(f"{target}: exists already; --force overwrites it")


def _comment(codec: RunnableCodec | Tokenizer, header: Header, codebooks: int | None) -> str:
    """Written into a decoded file, where its format can hold it."""
    kept = min(len(header.sizes), codebooks or len(header.sizes))
    weights = f"{header.fingerprint} {codec.decoder_fingerprint}"
    return f"decoded by audiotok: {header.codec} {weights}, {kept} codebooks"


def _waves(
    codec: RunnableCodec | Exported, reader: TokenReader, codebooks: int | None
) -> Iterator[np.ndarray]:
    """The decoded channels `[c t]` of the whole file, some frames at a time."""
    header = reader.header
    rows = len(header.sizes)
    keep = min(rows, codec.kept(codebooks))
    runs = [decoding(codec, reader.samples) for _ in range(header.streams)]
    step = SECONDS * codec.sample_rate // codec.frame_size
    for first in range(0, reader.frames, step):
        codes = reader.read(first, min(first + step, reader.frames))
        pairs = zip(runs, np.split(codes, header.streams), strict=True)
        yield _rows([run.push(stream[None, :keep]) for run, stream in pairs])
    yield _rows([run.finish() for run in runs])


def _rows(parts: list[np.ndarray]) -> np.ndarray:
    """What each stream gives, `[1 d n]`, stacked as a file has it."""
    return np.concatenate(parts, 1)[0]


def _made(source: str | Path, target: str | Path, tokens: Path, began: float) -> Made:
    took = time.perf_counter() - began
    facts = describe_tokens(tokens)
    return Made(
        source=str(source),
        target=str(target),
        codebooks=len(facts["sizes"]),
        took=took,
        **{key: facts[key] for key in ("seconds", "frames", "streams")},
        **{key: facts[key] for key in ("nominal_kbps", "file_kbps")},
    )


def describe_tokens(path: str | Path) -> dict[str, Any]:
    """What a .tok file holds, as plain data: its header, its length and its rates.

    Raises:
        TokenFileError: it cannot be read.
    """
    path = Path(path)
    with TokenReader(path) as reader:
        header, seconds = reader.header, reader.samples / reader.header.sample_rate
        size = path.stat().st_size
        return {
            "file": str(path),
            **asdict(header),
            "frames": reader.frames,
            "samples": reader.samples,
            "original_samples": reader.original_samples,
            "seconds": seconds,
            "nominal_kbps": round(Tokens.load(path, start=0, end=0).kbps, 4),
            "bytes": size,
            "file_kbps": round(size * 8 / 1000 / seconds, 4) if seconds else None,
        }


def describe_audio(path: str | Path) -> dict[str, Any]:
    """What the header of an audio file says; None where it does not say.

    Raises:
        AudioFileError: it cannot be read.
    """
    with open_audio(path) as audio:
        samples = audio.samples
        seconds = None if samples is None else samples / audio.rate
        facts = {"rate": audio.rate, "channels": audio.channels}
        return {"file": audio.name, **facts, "samples": samples, "seconds": seconds}
