"""Opens any audio file as a stream of chunks: through libsndfile, else ffmpeg, else torchcodec."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import soundfile

CHUNK = 16384  # samples decoded at a time; what is lost before the cut of a damaged file
RATES = range(1000, 1_000_001)  # Hz; a header outside of it is damaged
_UNKNOWN = 2**62  # libsndfile says 2**63 - 1 frames where the header does not say
# Codecs where seeking is exact; the rest (mp3, vorbis, opus, adpcm) are read from the start.
_SEEKABLE = ("PCM_", "FLOAT", "DOUBLE", "ULAW", "ALAW")
# Extensions that a folder is searched for; files named one by one may have any.
_SNDFILE = "wav flac ogg opus oga mp3 aiff aif aifc au caf w64 rf64 snd sph voc"
_OTHERS = "m4a aac webm mp4 mkv mov wma amr 3gp"  # through ffmpeg or torchcodec
AUDIO = tuple(f".{name}" for name in f"{_SNDFILE} {_OTHERS}".split())


class AudioFileError(ValueError):
    """An audio file that cannot be read or written; one line with its name and the way out."""


@dataclass
class Decoder:
    """An open recording: what its header says, and its samples in order."""

    name: str
    rate: int  # Hz
    channels: int
    samples: int | None  # in the whole recording; None where the header does not say
    first: int  # index of the first sample that `chunks` gives
    chunks: Iterator[np.ndarray]  # float32 [t c]; raises AudioFileError where the file is cut


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
        decoder = _libsndfile(file, name, stack, start)
    except soundfile.LibsndfileError as error:
        # 1: unknown format, 4: known format with an unknown codec, 7: named .mp3 but is not.
        if error.code not in (1, 4, 7):
            raise AudioFileError(f"{name}: damaged header ({_reason(error)})") from None
        if _is_text(file):
            raise AudioFileError(
                f"{name}: this is text, not audio; give an audio file instead"
            ) from None
        decoder = _ffmpeg(file, name, stack) or _torchcodec(file, name)
    if decoder is None:
        raise AudioFileError(
            f"{name}: libsndfile cannot read this format; "
            "install ffmpeg or `pip install torchcodec`, or convert it to wav or flac"
        )
    if decoder.rate not in RATES:
        raise AudioFileError(
            f"{name}: the header says {decoder.rate} Hz, which no recording has; it is damaged"
        )
    return decoder


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


def _reason(error: soundfile.LibsndfileError) -> str:
    if error.code == 24:  # libsndfile's own words are "SF_INFO struct incomplete"
        return "an impossible sample rate or channel count"
    return error.error_string.removeprefix("Error : ").rstrip(".")


def _cut(name: str, samples: int, rate: int, why: str) -> AudioFileError:
    seconds = samples * 100 // rate / 100  # rounded down: this much is there
    way = f"Audio.load(path, end={seconds:.2f}) reads that part" if seconds else "get it anew"
    return AudioFileError(f"{name}: truncated or damaged after {seconds:.2f} s ({why}); {way}")


class _Forward(soundfile.SoundFile):
    """A SoundFile read from front to back.

    soundfile seeks to where it already is after every read; in an mp3 that loses the decoder's
    state, and reading by blocks gives other samples than reading at once.
    """

    def seekable(self) -> bool:
        return False


def _libsndfile(path: str, name: str, stack: ExitStack, start: float | int) -> Decoder:
    file = stack.enter_context(_Forward(path))
    if file.format == "MP3" and os.name != "nt":
        # By path libsndfile guesses the length of an mp3 without a Xing header and stops there,
        # dropping more than half of a variable-rate one; from a pipe it reads to the end.
        file.close()
        file = _mp3_through_pipe(path, stack)
    samples = file.frames if file.frames < _UNKNOWN else None
    first = 0
    if samples is not None and file.subtype.startswith(_SEEKABLE):
        first = min(round(start * file.samplerate), samples)
        file.seek(first)
    missing = _missing_bytes(file.extra_info) or (file.format == "OGG" and not _ogg_ends(path))
    return Decoder(
        name,
        file.samplerate,
        file.channels,
        samples,
        first,
        _libsndfile_chunks(file, name, first, samples, bool(missing)),
    )


def _libsndfile_chunks(
    file: soundfile.SoundFile, name: str, done: int, samples: int | None, missing: bool
) -> Iterator[np.ndarray]:
    while True:
        try:
            chunk = file.read(CHUNK, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise _cut(name, done, file.samplerate, _reason(error)) from None
        if not len(chunk):
            break
        done += len(chunk)
        yield chunk
    if samples is not None and done < samples:
        promised = f"its header promises {samples / file.samplerate:.2f} s"
        raise _cut(name, done, file.samplerate, promised)
    if missing:
        raise _cut(name, done, file.samplerate, "the end of the file is missing")


def _missing_bytes(log: str) -> bool:
    """Whether libsndfile's log of a header says that the file ends before its samples do."""
    for line in re.finditer(r"(?:data|SSND|Data Size|riff)\s*:\s*(\d+) \(should be (\d+)\)", log):
        promised, present = int(line[1]), int(line[2])
        # A program that writes to a pipe cannot know the size and puts in the largest there is.
        placeholder = 0x7FFFF000 <= promised <= 0xFFFFFFFF and present > 0
        if promised > present + 8 and not placeholder:
            return True
    frames = re.search(r"frame count (\d+) does not match value from 'ds64' chunk of (\d+)", log)
    return (frames is not None and int(frames[1]) < int(frames[2])) or "truncated file" in log


def _ogg_ends(path: str) -> bool:
    """Whether the last page of an Ogg file is complete and marked as the last (RFC 3533)."""
    with Path(path).open("rb") as file:
        file.seek(max(0, Path(path).stat().st_size - 2 * 65307))  # 65307: the longest page
        tail = file.read()
    page = tail[tail.rfind(b"OggS") :]
    if len(page) < 27 or not page[5] & 4:
        return False
    sizes = page[27 : 27 + page[26]]
    return len(page) >= 27 + page[26] + sum(sizes)


def _mp3_through_pipe(path: str, stack: ExitStack) -> soundfile.SoundFile:
    out, into = os.pipe()

    def feed() -> None:
        # Closing the reading end early (an error, or enough was read) breaks the pipe.
        with (
            suppress(BrokenPipeError),
            os.fdopen(into, "wb") as pipe,
            Path(path).open("rb") as file,
        ):
            shutil.copyfileobj(file, pipe)

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    stack.callback(feeder.join)
    stack.callback(os.close, out)
    return stack.enter_context(_Forward(out, closefd=False))


def _ffmpeg(path: str, name: str, stack: ExitStack) -> Decoder | None:
    """The first audio track through the ffmpeg program; None where that is not installed."""
    ffmpeg, ffprobe = shutil.which("ffmpeg"), shutil.which("ffprobe")
    if ffmpeg is None or ffprobe is None:
        return None
    # "file:" and the whitelist: neither a file's name nor its content can make ffmpeg go online.
    source = ["-protocol_whitelist", "file,pipe", "-i", f"file:{path}"]
    show = ["-select_streams", "a:0", "-show_entries", "stream=sample_rate,channels", "-of", "json"]
    probe = subprocess.run(
        [ffprobe, "-v", "error", *show, *source], capture_output=True, stdin=subprocess.DEVNULL
    )
    streams = json.loads(probe.stdout or b"{}").get("streams", [])
    if not probe.returncode and not streams:
        raise AudioFileError(f"{name}: there is no sound in this file")
    track = streams[0] if streams else {}
    rate, channels = int(track.get("sample_rate", 0)), int(track.get("channels", 0))
    if probe.returncode or not rate or not channels:
        raise AudioFileError(
            f"{name}: neither libsndfile nor ffmpeg can read it (damaged, or not audio)"
        )
    target = ["-map", "0:a:0", "-ac", str(channels), "-ar", str(rate)]
    target += ["-c:a", "pcm_f32le", "-f", "f32le"]
    log = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
    process = subprocess.Popen(
        [ffmpeg, "-nostdin", "-v", "error", "-xerror", *source, *target, "pipe:1"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=log,
    )
    stack.enter_context(process)  # closes the pipe and waits
    stack.callback(process.kill)

    def chunks() -> Iterator[np.ndarray]:
        assert process.stdout is not None
        done = 0
        while data := process.stdout.read(CHUNK * channels * 4):
            whole = len(data) // (4 * channels) * channels
            chunk = np.frombuffer(data, "<f4", whole).astype(np.float32).reshape(-1, channels)
            done += len(chunk)
            yield chunk
        failed = process.wait() != 0
        log.seek(0)
        lines = log.read().decode(errors="replace").splitlines()
        if failed or any("ended prematurely" in line for line in lines):  # what matroska says
            why = re.sub(r"^\[.*?\] ", "", lines[-1]) if lines else "ffmpeg failed"
            raise _cut(name, done, rate, why.replace(f"file:{path}", name))

    return Decoder(name, rate, channels, None, 0, chunks())


def _torchcodec(path: str, name: str) -> Decoder | None:
    """The first audio track through torchcodec; None where that cannot be imported.

    It is decoded whole: torchcodec 0.13 repeats samples where two ranges of a webm file meet.
    """
    try:
        from torchcodec.decoders import AudioDecoder  # pyright: ignore[reportMissingImports]
    except (ImportError, OSError, RuntimeError):  # absent, or built for another torch
        return None
    try:
        wave = AudioDecoder(path).get_all_samples()
    except (RuntimeError, ValueError):
        raise AudioFileError(
            f"{name}: neither libsndfile nor torchcodec can read it (damaged, or holds no sound)"
        ) from None
    samples = wave.data.numpy().T
    chunks = (samples[at : at + CHUNK] for at in range(0, len(samples), CHUNK))
    return Decoder(name, wave.sample_rate, samples.shape[1], len(samples), 0, chunks)
