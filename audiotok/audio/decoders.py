"""Decoding of any audio file in chunks: by libsndfile, else by ffmpeg, else by torchcodec."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np
import soundfile

from audiotok.audio import headers, ogg
from audiotok.audio.base import CHUNK as CHUNK
from audiotok.audio.base import AudioFileError, Decoder, cut_off
from audiotok.audio.ffmpeg import open_ffmpeg
from audiotok.audio.libsndfile import open_libsndfile, reason
from audiotok.audio.torchcodec import DoesNotLoadError, open_torchcodec

RATES = range(1000, 1_000_001)  # Hz; a header with another rate is damaged
# Extensions that are taken from a folder; files named one by one may have any.
_SNDFILE = "wav flac ogg opus oga mp3 aiff aif aifc au caf w64 rf64 snd sph voc"
_OTHERS = "m4a aac webm mp4 mkv mov wma amr 3gp spx ogv"  # by ffmpeg or torchcodec
AUDIO = tuple(f".{name}" for name in f"{_SNDFILE} {_OTHERS}".split())
_HEADERLESS = (".raw", ".pcm")


class HeaderlessError(AudioFileError):
    """Error of raw samples, for which no header gives a rate and a format."""


def open_decoder(
    path: str | os.PathLike[str], stack: ExitStack, *, start: float | int = 0.0
) -> Decoder:
    """Open a file, or stdin for "-", for decoding from front to back.

    Args:
        path: the file.
        stack: owns files, processes and temporary files, and closes them when it is closed.
        start: seconds that need not be decoded; `Decoder.first` gives the samples skipped.

    Raises:
        AudioFileError: missing, empty, not audio, or damaged.
    """
    name = "<stdin>" if os.fspath(path) == "-" else os.fspath(path)
    file = _regular_file(path, name, stack)
    try:
        decoder = open_libsndfile(file, name, stack, start)
    except soundfile.LibsndfileError as error:
        decoder = _open_fallback(file, name, stack, error)
    if decoder.rate not in RATES:
        raise AudioFileError(
            f"{name}: the header says {decoder.rate} Hz, which no recording has; it is damaged"
        )
    return decoder


def _open_fallback(
    path: str, name: str, stack: ExitStack, error: soundfile.LibsndfileError
) -> Decoder:
    """Open a file that libsndfile refuses by ffmpeg or torchcodec, unless it is no audio."""
    if headers.is_shortened(path):
        raise AudioFileError(
            f"{name}: compressed by Shorten, which sph2pipe undoes: `sph2pipe -f wav in out.wav`"
        )
    # 1: unknown format, 4 and 18: known format with an unknown codec, 7: named .mp3 but is not.
    intact = error.code in (1, 4, 7, 18) or ogg.is_ogg(path) or headers.has_uncommon_codec(path)
    if not intact:
        raise AudioFileError(f"{name}: damaged header ({reason(error)})") from None
    if _is_text(path):
        raise AudioFileError(f"{name}: this is text, not audio; give an audio file instead")
    if Path(name).suffix.lower() in _HEADERLESS:
        raise HeaderlessError(
            f"{name}: raw samples have no header that says their rate and format; give them one, "
            f"e.g. `ffmpeg -f s16le -ar 16000 -ac 1 -i in{Path(name).suffix} out.wav`"
        )
    decoder, why = open_ffmpeg(path, name, stack), ""
    if decoder is None:
        try:
            decoder = open_torchcodec(path, name)
        except DoesNotLoadError as failure:
            why = f" (torchcodec is installed, but does not load: {failure})"
    if decoder is None:
        way = "install ffmpeg" if why else "install ffmpeg or `pip install torchcodec`"
        raise AudioFileError(
            f"{name}: libsndfile cannot read this format; {way}, or convert it to wav or flac{why}"
        )
    if headers.is_cut_wav(path) or (ogg.is_ogg(path) and not ogg.is_whole(path)):
        return replace(decoder, chunks=_cut(decoder))
    return decoder


def _cut(decoder: Decoder) -> Iterator[np.ndarray]:
    """Yield the chunks of a file whose end is missing, then raise: some decoders do not."""
    done = 0  # samples
    for chunk in decoder.chunks:
        done += len(chunk)
        yield chunk
    raise cut_off(decoder.name, done, decoder.rate, "the end of the file is missing")


def _regular_file(path: str | os.PathLike[str], name: str, stack: ExitStack) -> str:
    """Return the path of a file that can be seeked in; pipes and stdin are copied to disk."""
    try:
        if name == "<stdin>":
            return _spooled(sys.stdin.buffer, name, stack)
        mode = Path(path).stat().st_mode
        if stat.S_ISDIR(mode):
            raise AudioFileError(f"{name}: this is a folder; name a file in it")
        with Path(path).open("rb") as file:
            if not stat.S_ISREG(mode):
                return _spooled(file, name, stack)
            if not file.read(1):
                raise AudioFileError(f"{name}: the file is empty (0 bytes)")
    except FileNotFoundError:
        raise AudioFileError(f"{name}: no such file") from None
    except PermissionError:
        raise AudioFileError(f"{name}: no permission to read it; try `chmod +r`") from None
    except OSError as error:
        raise AudioFileError(f"{name}: cannot be read ({error.strerror})") from None
    return os.path.abspath(path)  # noqa: PTH100  (libsndfile takes "-" for stdin, not "/x/-")


def _spooled(source: IO[bytes], name: str, stack: ExitStack) -> str:
    """Return the path of a temporary copy of a stream."""
    copy = stack.enter_context(tempfile.NamedTemporaryFile(prefix="audiotok-"))  # noqa: SIM115
    shutil.copyfileobj(source, copy, 2**20)
    copy.flush()
    if not copy.tell():
        raise AudioFileError(f"{name}: nothing came (0 bytes)")
    return copy.name


def _is_text(path: str) -> bool:
    """Return whether the first bytes of a file are printable text."""
    with Path(path).open("rb") as file:
        return all(byte >= 32 or byte in b"\t\n\r\f" for byte in file.read(512))
