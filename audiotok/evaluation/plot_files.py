"""Pictures of files: an audio file with what a codec makes of it, or a .tok file with its sound."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from audiotok._platform.errors import InputError
from audiotok.audio.audio import Audio
from audiotok.audio.reader import open_audio
from audiotok.codecs.embeddings import entries_of
from audiotok.evaluation.plot import LONGEST, draw_recording
from audiotok.runtime.base import RunnableCodec
from audiotok.runtime.files import decode_file, encode_file
from audiotok.tokens import TokenReader, frame_range
from audiotok.tokens.kinds import AnyTokens, load_tokens
from audiotok.tokens.tokenizer import kept


def plot_audio(
    source: Path,
    target: Path,
    codec: RunnableCodec[Any] | None = None,
    *,
    start: float = 0,
    end: float | None = None,
    codebooks: int | None = None,
) -> None:
    """Draw waveform and spectrogram of an audio file, and the tokens of a codec if one is given.

    At most a minute is drawn. The tokens are those of the whole file, not of a cut.

    Args:
        source: the audio file.
        target: picture to write: .png, .svg or .pdf.
        codec: codec whose tokens are drawn.
        start: first second to draw.
        end: last second to draw; None for a minute later.
        codebooks: number of codebooks to draw, from the first; None for all.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: the file cannot be read, or ends before `start`.
    """
    first, last = _window(start, end)
    audio = Audio.load(source, start=first, end=last)
    with open_audio(source) as whole:
        seconds = None if whole.samples is None else whole.samples / whole.rate
    title = f"{source.name[:60]}, {_span(first, audio.seconds, seconds)}"
    if codec is None:
        draw_recording(target, title=f"{title}, {audio.rate} Hz", audio=audio, start=first)
        return
    with TemporaryDirectory() as folder:
        encoded = Path(folder) / "whole.tok"
        encode_file(codec, source, encoded, codebooks=codebooks)
        tokens, at = _cut(encoded, first, last)
    draw_recording(
        target,
        title=f"{title}: {_facts(tokens)}",
        audio=audio,
        tokens=tokens,
        start=first,
        tokens_start=at,
        embeddings=entries_of(codec),
    )


def plot_tokens(
    source: Path,
    target: Path,
    codec: RunnableCodec[Any] | None = None,
    *,
    start: float = 0,
    end: float | None = None,
    codebooks: int | None = None,
    sound: bool = False,
) -> None:
    """Draw the tokens of a .tok file, and the audio that they decode to if asked for.

    At most a minute is drawn. The audio is that of the whole file, not of a cut.

    Args:
        source: the .tok file.
        target: picture to write: .png, .svg or .pdf.
        codec: codec that the tokens are of; without it colours do not show similarity.
        start: first second to draw.
        end: last second to draw; None for a minute later.
        codebooks: number of codebooks to draw and decode, from the first; None for all.
        sound: whether to decode the tokens, and draw waveform and spectrogram above them.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: the file cannot be read, ends before `start`, is of another codec, or has not
            so many codebooks.
    """
    first, last = _window(start, end)
    tokens, at = _cut(source, first, last)
    if codec is not None:
        codec.check_tokens(tokens)
    if codebooks is not None:
        kept(codebooks, len(tokens.header.sizes))
        tokens = tokens.first(codebooks)
    audio = None
    if sound:
        if codec is None:
            raise InputError(f"{source}: only the codec of the tokens can decode them; give it")
        with TemporaryDirectory() as folder:
            decoded = Path(folder) / "whole.wav"
            decode_file(codec, source, decoded, codebooks=codebooks)
            audio = Audio.load(decoded, start=first, end=last)
    with TokenReader(source) as reader:
        seconds = reader.samples / reader.header.sample_rate
    drawn = min(last, seconds) - first
    draw_recording(
        target,
        title=f"{source.name[:60]}, {_span(first, drawn, seconds)}: {_facts(tokens)}",
        audio=audio,
        tokens=tokens,
        start=first if sound else at,
        tokens_start=at,
        embeddings=None if codec is None else entries_of(codec),
    )


def _window(start: float, end: float | None) -> tuple[float, float]:
    """Return the first and the last second to draw."""
    latest = start + LONGEST
    return start, latest if end is None else min(end, latest)


def _cut(path: Path, start: float, end: float) -> tuple[AnyTokens, float]:
    """Return the tokens of a time range, and the time of their first frame.

    Raises:
        ValueError: there are none.
    """
    with TokenReader(path) as reader:
        header, samples = reader.header, reader.samples
        first, last = frame_range(header, samples, start, end)
    if first == last:
        seconds = samples / header.sample_rate
        raise InputError(f"{path}: no tokens from {start:g} s on: it ends at {seconds:g} s")
    return load_tokens(path, start=start, end=end), first * header.frame_size / header.sample_rate


def _span(start: float, drawn: float, seconds: float | None) -> str:
    """Return which part of a recording is drawn, as text."""
    if seconds is not None and drawn >= seconds - 1e-6:
        return f"{seconds:.2f} s"
    whole = "" if seconds is None else f" of {seconds:.2f} s"
    return f"{start:.2f} to {start + drawn:.2f} s{whole}"


def _facts(tokens: AnyTokens) -> str:
    """Return codec, codebooks and bit rate as text."""
    streams = f"{tokens.streams} x " if tokens.streams > 1 else ""
    rows = f"latents of {tokens.header.width}"
    if tokens.kind == "codes":
        rows = f"{tokens.codebooks} codebooks"
    return f"{tokens.codec} ({tokens.fingerprint}), {streams}{rows}, {tokens.kbps:.2f} kbps"
