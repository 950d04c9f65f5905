"""Conversion of files: audio to .tok and back in blocks, with the target complete or absent."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

from audiotok.audio.base import soundfile_path
from audiotok.audio.decoders import AudioFileError
from audiotok.audio.reader import open_audio, resampled
from audiotok.audio.writer import Sink
from audiotok.runtime.describe import describe_tokens
from audiotok.runtime.session import CodingSession
from audiotok.runtime.sessions import Decoding, Encoding
from audiotok.tokens import (
    Header,
    TokenFileDamagedError,
    TokenFileExistsError,
    TokenReader,
    TokenWriter,
)

if TYPE_CHECKING:
    from audiotok.runtime.base import RunnableCodec
    from audiotok.tokens.tokenizer import Tokenizer

SECONDS = 60  # length of the blocks of audio in decoding


@dataclass(frozen=True)
class FileReport:
    """Facts about one file that was encoded or decoded."""

    source: str
    target: str
    seconds: float  # length of the audio
    frames: int
    codebooks: int  # in each stream; 0 of latents
    width: int  # features of latents in each stream; 0 of codes
    streams: int  # number of channels that are coded separately
    nominal_kbps: float  # information in the codes
    file_kbps: float | None  # size of the whole .tok file; None if it holds no audio
    took: float  # time of the conversion in seconds

    def row(self) -> dict[str, Any]:
        """Return the facts as JSON, with `speed` in seconds of audio per second of work."""
        return {**asdict(self), "speed": round(self.seconds / max(self.took, 1e-9), 2)}


def encode_file(
    codec: RunnableCodec[Any],
    source: str | Path,
    target: str | Path,
    *,
    codebooks: int | None = None,
    split: bool = False,
    half: bool = False,
    force: bool = False,
) -> FileReport:
    """Encode an audio file of any length to a .tok file, in constant memory.

    The codes are, to the bit, those of `codec.encode(Audio.load(source))`. Missing folders above
    the target are created.

    Args:
        codec: codec to encode with.
        source: an audio file, or "-" for stdin.
        target: path of the .tok file.
        codebooks: number of codebooks to keep, from the first (all if None).
        split: code each channel by itself, instead of their mean.
        half: store latents in half precision, rounded (see `Latents`).
        force: overwrite the target.

    Raises:
        AudioFileError: the source cannot be read, or holds no samples.
        TokenFileError: the target exists and `force` is False, or it cannot be written.
        ValueError: the codec has not so many codebooks, or cannot code so many channels.
    """
    began = time.perf_counter()
    codebooks = codec.kept(codebooks)
    with open_audio(source) as audio:
        streams = codec.streams(audio.channels, split=split)
        mono = streams * codec.channels < audio.channels
        header = codec.header(audio.rate, streams=streams, codebooks=codebooks, half=half)
        runs = [Encoding(codec.executor, codebooks=codebooks) for _ in range(streams)]
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        with TokenWriter(target, header, force=force) as writer:
            for block in audio.arrays(rate=codec.sample_rate, mono=mono):
                writer.append(_pushed(runs, np.split(block, streams)))
            samples, whole = runs[0].samples, runs[0].frames * codec.frame_size
            if not samples:
                raise AudioFileError(f"{audio.name}: holds no samples; record it again")
            writer.append(
                _finished(runs),
                samples=samples - whole,
                original_samples=audio.read - header.to_original(whole),
            )
    return _report(source, target, Path(target), began)


def decode_file(
    codec: RunnableCodec[Any],
    source: str | Path,
    target: str | Path,
    *,
    codebooks: int | None = None,
    original_rate: bool = False,
    force: bool = False,
) -> FileReport:
    """Decode a .tok file of any length to an audio file, in constant memory.

    Missing folders above the target are created.

    Args:
        codec: codec that the tokens are of.
        source: a .tok file.
        target: path of the audio file, whose extension determines the format.
        codebooks: number of codebooks to use, from the first (all in the file if None).
        original_rate: resample to the rate and length of the original recording.
        force: overwrite the target.

    Raises:
        NoDecoderError: the codec is a tokenizer without a decoder.
        WrongTokensError: the tokens are of another codec or other weights.
        TokenFileError: the source is missing or damaged.
        AudioFileError: the target exists and `force` is False, or it cannot be written.
    """
    began = time.perf_counter()
    with TokenReader(source) as reader:
        header = reader.header
        codec.check_decodes()
        codec.check_tokens(header)
        resamples = original_rate and header.original_rate != codec.decoded_rate
        rate = header.original_rate if resamples else codec.decoded_rate
        length = reader.original_samples if original_rate else codec.decoded_samples(reader.samples)
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        comment = _comment(codec, header, codebooks)
        with Sink(target, rate, header.channels, force=force, comment=comment) as writer:
            pieces = _waves(codec, reader, codebooks)
            if resamples:
                pieces = resampled(pieces, codec.decoded_rate, rate, header.channels)
            given = 0
            for piece in pieces:
                writer.write(piece[:, : length - given])
                given += piece.shape[1]
            # Rounding in resampling may leave the audio a sample short.
            writer.write(np.zeros((header.channels, max(0, length - given)), np.float32))
    return _report(source, target, Path(source), began)


def is_encoded(
    codec: Tokenizer,
    source: str | Path,
    target: str | Path,
    *,
    codebooks: int | None = None,
    split: bool = False,
    half: bool = False,
) -> bool:
    """Return False if the target does not exist, and True if its header names this codec, so
    many codebooks, this split and precision. Its codes are not compared with the source.

    Args:
        codec: as for `encode_file`.
        source: as for `encode_file`.
        target: as for `encode_file`.
        codebooks: as for `encode_file`.
        split: as for `encode_file`.
        half: as for `encode_file`.

    Raises:
        TokenFileError: the target exists and is anything else.
    """
    target = Path(target)
    if not target.exists():
        return False
    try:
        with TokenReader(target) as reader:
            header = reader.header
    except TokenFileDamagedError as error:
        raise TokenFileExistsError(f"{error}; force=True overwrites it") from None
    kept = codec.kept(codebooks)
    same = header.codec == codec.name and codec.has_codes_of(header.fingerprint)
    is_split = header.streams > 1
    dtype = codec.header(header.original_rate, streams=1, codebooks=kept, half=half).dtype
    if not same or len(header.sizes) != kept:
        books = f"{len(header.sizes)} codebooks"
        what = f"latents of {header.width}" if header.width else books
        contents = f"made by {header.codec} {header.fingerprint} with {what}"
    elif is_split != split and (is_split or _channels(source) > codec.channels):
        contents = f"with channels {'split' if is_split else 'mixed'}"
    elif header.dtype != dtype:
        contents = f"with latents in {header.dtype}"
    else:
        return True
    raise TokenFileExistsError(f"{target}: exists already, {contents}; force=True overwrites it")


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
    """Return False if the target does not exist, and True if its comment says that it was decoded
    in this way and it is no older than the source.

    Args:
        codec: as for `decode_file`.
        source: as for `decode_file`.
        target: as for `decode_file`.
        codebooks: as for `decode_file`.
        original_rate: as for `decode_file`.

    Raises:
        AudioFileError: the target is something else, or its format cannot hold a comment by which
            to tell.
    """
    target = Path(target)
    if not target.exists():
        return False
    with TokenReader(source) as reader:
        header = reader.header
        rate = header.original_rate if original_rate else codec.decoded_rate
        length = reader.original_samples if original_rate else codec.decoded_samples(reader.samples)
    with (
        suppress(OSError, soundfile.LibsndfileError),
        soundfile.SoundFile(soundfile_path(target)) as file,
    ):
        same = (file.samplerate, file.frames, file.comment) == (
            rate,
            length,
            _comment(codec, header, codebooks),
        )
        if same and target.stat().st_mtime >= Path(source).stat().st_mtime:
            return True
    raise AudioFileError(f"{target}: exists already; force=True overwrites it")


def _comment(codec: Tokenizer, header: Header, codebooks: int | None) -> str:
    """Return the comment of a decoded file, where its format can hold one."""
    kept = min(len(header.sizes), codebooks or len(header.sizes))
    weights = f"{header.fingerprint} {codec.decoder_fingerprint}"
    precision = "" if codec.precision == "float32" else f", {codec.precision}"
    holds = f"{header.dtype} latents" if header.width else f"{kept} codebooks"
    return f"decoded by audiotok: {header.codec} {weights}, {holds}{precision}"


def _waves(
    codec: RunnableCodec[Any], reader: TokenReader, codebooks: int | None
) -> Iterator[np.ndarray]:
    """Yield the decoded channels `[c t]` of the whole file in blocks."""
    header = reader.header
    keep = header.width or min(len(header.sizes), codec.kept(codebooks))
    samples = codec.decoded_samples(reader.samples)
    runs = [Decoding(codec.executor, samples=samples) for _ in range(header.streams)]
    step = SECONDS * codec.sample_rate // codec.frame_size
    for first in range(0, reader.frames, step):
        codes = reader.read(first, min(first + step, reader.frames))
        yield _pushed(runs, [stream[:keep] for stream in np.split(codes, header.streams)])
    yield _finished(runs)


def _pushed(runs: Sequence[CodingSession[Any]], pieces: Sequence[np.ndarray]) -> np.ndarray:
    """Push a piece `[d n]` into each session, and return their outputs as `[streams*d n]`."""
    executor = runs[0].executor
    pairs = zip(runs, pieces, strict=True)
    outputs = [executor.numpy(run.push(executor.array(piece[None]))) for run, piece in pairs]
    return np.concatenate(outputs, 1)[0]


def _finished(runs: Sequence[CodingSession[Any]]) -> np.ndarray:
    """Finish all sessions, and return their outputs as `[streams*d n]`."""
    return np.concatenate([run.executor.numpy(run.finish()) for run in runs], 1)[0]


def _report(source: str | Path, target: str | Path, tokens: Path, began: float) -> FileReport:
    took = time.perf_counter() - began
    facts = describe_tokens(tokens)
    return FileReport(
        source=str(source),
        target=str(target),
        codebooks=len(facts["sizes"]),
        width=facts.get("width", 0),
        took=took,
        **{key: facts[key] for key in ("seconds", "frames", "streams")},
        **{key: facts[key] for key in ("nominal_kbps", "file_kbps")},
    )
