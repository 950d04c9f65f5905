"""Opens any audio file as a stream of chunks: through libsndfile, else ffmpeg, else torchcodec."""

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

RATES = range(1000, 1_000_001)  # Hz; a header outside of it is damaged
# Extensions that a folder is searched for; files named one by one may have any.
_SNDFILE = "wav flac ogg opus oga mp3 aiff aif aifc au caf w64 rf64 snd sph voc"
_OTHERS = "m4a aac webm mp4 mkv mov wma amr 3gp spx ogv"  # through ffmpeg or torchcodec
AUDIO = tuple(f".{name}" for name in f"{_SNDFILE} {_OTHERS}".split())
_HEADERLESS = (".raw", ".pcm")


class HeaderlessError(AudioFileError):
    """Raw samples: nothing in the file says their rate."""


def open_decoder(
    path: str | os.PathLike[str], stack: ExitStack, *, start: float | int = 0.0
) -> Decoder:
    """Opens a file, or stdin for "-"; `stack` owns everything that must be closed.

    Args:
        path: the file.
        stack: closes files, processes and temporary files when it is closed.
        start: seconds that need not be decoded; `Decoder.first` says what was skipped.

    Raises:
        AudioFileError: missing, empty, not audio, or damaged.
    """
    name = "<stdin>" if os.fspath(path) == "-" else os.fspath(path)
    file = _regular_file(path, name, stack)
    try:
        decoder = open_libsndfile(file, name, stack, start)
    except soundfile.LibsndfileError as error:
        decoder = _foreign(file, name, stack, error)
    if decoder.rate not in RATES:
        raise AudioFileError(
            f"{name}: the header says {decoder.rate} Hz, which no recording has; it is damaged"
        )
    return decoder


def _foreign(path: str, name: str, stack: ExitStack, error: soundfile.LibsndfileError) -> Decoder:
    """Opens what libsndfile refuses by what else is installed, if it may be sound."""
    if headers.is_shortened(path):
        raise AudioFileError(
            f"{name}: compressed by Shorten, which sph2pipe undoes: `sph2pipe -f wav in out.wav`"
        )
    # 1: unknown format, 4 and 18: known format with an unknown codec, 7: named .mp3 but is not.
    whole = error.code in (1, 4, 7, 18) or ogg.is_ogg(path) or headers.is_foreign_wav(path)
    if not whole:
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
    """The chunks of a file whose end is missing, and that it is: some decoders do not say."""
    done = 0
    for chunk in decoder.chunks:
        done += len(chunk)
        yield chunk
    raise cut_off(decoder.name, done, decoder.rate, "the end of the file is missing")


def _regular_file(path: str | os.PathLike[str], name: str, stack: ExitStack) -> str:
    """A file that can be opened by name and sought in: pipes and stdin are copied to disk."""
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
    copy = stack.enter_context(tempfile.NamedTemporaryFile(prefix="audiotok-"))  # noqa: SIM115
    shutil.copyfileobj(source, copy, 2**20)
    copy.flush()
    if not copy.tell():
        raise AudioFileError(f"{name}: nothing came (0 bytes)")
    return copy.name


def _is_text(path: str) -> bool:
    with Path(path).open("rb") as file:
        return all(byte >= 32 or byte in b"\t\n\r\f" for byte in file.read(512))
