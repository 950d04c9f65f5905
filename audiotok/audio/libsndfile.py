"""Decoding of audio files by libsndfile, also of several recordings joined into one file."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from audiotok.audio import headers, mp3, ogg
from audiotok.audio.base import (
    CHUNK,
    AudioFileError,
    Decoder,
    FileView,
    cut_off,
    joined,
    soundfile_path,
)

_UNKNOWN = 2**62  # libsndfile gives 2**63 - 1 frames for an unknown length
# Codecs where seeking is exact; the rest (mp3, vorbis, opus, adpcm) are read from the start.
_SEEKABLE = ("PCM_", "FLOAT", "DOUBLE", "ULAW", "ALAW")


class _Forward(soundfile.SoundFile):
    """A SoundFile that is read from front to back without seeking.

    After every read soundfile seeks to the current position; in an mp3 that loses the decoder's
    state, so that reading in blocks gives other samples than reading at once.
    """

    @classmethod
    def viewed(cls, view: Any) -> _Forward:
        """Open a `FileView`: soundfile accepts it, but its type annotations do not."""
        return cls(view)

    def seekable(self) -> bool:
        return False


def open_libsndfile(path: str, name: str, stack: ExitStack, start: float | int) -> Decoder:
    """Open a file by libsndfile.

    Args:
        path: the file to decode.
        name: the file, for messages.
        stack: owns everything that must be closed.
        start: seconds that need not be decoded; skipped where the codec seeks exactly.

    Raises:
        soundfile.LibsndfileError: libsndfile cannot read it.
    """
    file = _opened(path, stack)
    if file.subtype.startswith("MPEG") and os.name != "nt":
        data = headers.wav_data(path) if file.format.startswith("WAV") else None
        size = Path(path).stat().st_size
        first, last = (data.at, min(data.at + data.size, size)) if data else (0, size)
        begins = mp3.next_start(path, first, last)
        # A recording of free format can only be read by path.
        if begins is not None and not begins.free:
            # By path libsndfile guesses the length of an mp3 without a Xing header and stops there,
            # dropping more than half of a variable-rate one; from a pipe it reads to the end.
            file.close()
            return _mp3(path, name, stack, first, begins, last)
    if file.format == "OGG" and ogg.is_chained(path):
        links = ogg.links(path)
        if len(links) > 1:
            file.close()
            return _chained(path, name, stack, links)
    samples = file.frames if file.frames < _UNKNOWN else None
    first = 0
    if samples is not None and file.subtype.startswith(_SEEKABLE):
        first = min(round(start * file.samplerate), samples)
        file.seek(first)
    missing = _missing_bytes(file.extra_info)
    chunks = _chunks(file, name, first, samples, missing)
    if file.format == "OGG":
        chunks = _ogg_chunks(path, name, file, first, samples)
    integers = file.subtype.startswith("PCM_")
    return Decoder(name, file.samplerate, file.channels, samples, first, chunks, integers=integers)


def _opened(path: str, stack: ExitStack) -> _Forward:
    """Open a file, with sizes in its header corrected that its writer never wrote."""
    # soundfile takes any file named .raw for headerless, so such a file is opened as a view.
    headerless = Path(path).suffix.lower() == ".raw"
    patches: dict[int, bytes] | None = {} if headerless else None
    try:
        if patches is None:
            file = _Forward(soundfile_path(path))
            if file.frames or not file.format.startswith("WAV"):
                return stack.enter_context(file)
            patches = headers.unwritten_sizes(path)
            if patches is None:
                return stack.enter_context(file)
            file.close()
    except soundfile.LibsndfileError:
        patches = headers.unwritten_sizes(path)
        if patches is None:
            raise
    view = stack.enter_context(FileView(path, patches=patches))
    return stack.enter_context(_Forward.viewed(view))


def _chunks(
    file: soundfile.SoundFile, name: str, done: int, samples: int | None, missing: bool
) -> Iterator[np.ndarray]:
    """Yield the chunks `[t c]` of a file; raise AudioFileError if it ends early.

    Args:
        file: the open file.
        name: the file, for messages.
        done: samples before the first one that will be read.
        samples: length by the header; None if unknown.
        missing: whether the file is known to be cut.
    """
    while True:
        try:
            chunk = file.read(CHUNK, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise cut_off(name, done, file.samplerate, reason(error)) from None
        if not len(chunk):
            break
        done += len(chunk)
        yield chunk
    if samples is not None and done < samples:
        promised = f"its header promises {samples / file.samplerate:.2f} s"
        raise cut_off(name, done, file.samplerate, promised)
    if missing:
        raise cut_off(name, done, file.samplerate, "the end of the file is missing")


def reason(error: soundfile.LibsndfileError) -> str:
    """Return the message of an error of libsndfile."""
    if error.code == 24:  # libsndfile's own message is "SF_INFO struct incomplete"
        return "an impossible sample rate or channel count"
    return error.error_string.removeprefix("Error : ").rstrip(".")


def _missing_bytes(log: str) -> bool:
    """Return whether libsndfile's log of a header says that samples are missing at the end."""
    for line in re.finditer(r"(?:data|SSND|Data Size|riff)\s*:\s*(\d+) \(should be (\d+)\)", log):
        promised, present = int(line[1]), int(line[2])
        # Programs that write to a pipe do not know the size and write the largest number.
        placeholder = 0x7FFFF000 <= promised <= 0xFFFFFFFF and present > 0
        if promised > present + 8 and not placeholder:
            return True
    frames = re.search(r"frame count (\d+) does not match value from 'ds64' chunk of (\d+)", log)
    return (frames is not None and int(frames[1]) < int(frames[2])) or "truncated file" in log


# ---- Ogg


def _ogg_chunks(
    path: str, name: str, file: soundfile.SoundFile, done: int, samples: int | None
) -> Iterator[np.ndarray]:
    """Yield the chunks of an Ogg file of one link; raise if it has several after all."""
    for chunk in _chunks(file, name, done, samples, not ogg.is_whole(path)):
        done += len(chunk)
        yield chunk
    count = len(ogg.links(path))  # reads only the pages' headers, which are in the cache by now
    if count > 1:
        raise AudioFileError(
            f"{name}: {count} recordings joined into one file under one serial number, which no "
            "reader can tell apart; take it apart, or join their samples instead of their files"
        )


def _chained(path: str, name: str, stack: ExitStack, links: list[tuple[int, int]]) -> Decoder:
    """Return a decoder of the recordings of a chained Ogg file, one after the other."""
    kinds: list[tuple[int, int]] = []
    lengths: list[int] = []
    for link in links:
        with FileView(path, *link) as view, _Forward.viewed(view) as file:
            kinds.append((file.samplerate, file.channels))
            lengths.append(file.frames)

    def chunks() -> Iterator[np.ndarray]:
        done = 0
        for kind, length, link in zip(kinds, lengths, links, strict=True):
            if kind != kinds[0]:
                raise joined(name, done, kinds[0], kind)
            with ExitStack() as inner:
                stack.callback(inner.close)
                file = inner.enter_context(
                    _Forward.viewed(inner.enter_context(FileView(path, *link)))
                )
                cut = not ogg.is_whole(path, *link)
                for chunk in _chunks(file, name, done, done + length, cut):
                    done += len(chunk)
                    yield chunk

    samples = sum(lengths) if len(set(kinds)) == 1 else None
    return Decoder(name, *kinds[0], samples, 0, chunks())


# ---- mp3


def _mp3(
    path: str, name: str, stack: ExitStack, first: int, begins: mp3.Mp3Start, last: int
) -> Decoder:
    """Return a decoder of the recordings of an mp3 file, of which there is often only one.

    libsndfile stops where a Xing or Info tag says that the recording ends, and at a frame of
    another kind. The bytes that are then left in the pipe belong to the next recording.

    Args:
        path: the file.
        name: the file, for messages.
        stack: owns everything that must be closed.
        first: the byte to read from.
        begins: the first frame.
        last: the byte to end before.
    """
    pipe = _Pipe(path, first, last, stack)
    file = pipe.file
    kind = file.samplerate, file.channels
    samples = file.frames if file.frames < _UNKNOWN else None
    if begins.end is None or mp3.next_start(path, begins.end, last) is not None:
        samples = None

    def chunks() -> Iterator[np.ndarray]:
        at, part, done = first, pipe, 0
        while True:
            length = part.file.frames if part.file.frames < _UNKNOWN else None
            read = 0
            for chunk in _chunks(part.file, name, done, None, False):
                read += len(chunk)
                done += len(chunk)
                yield chunk
            if length is not None and read < length:
                promised = f"its header promises {(done - read + length) / kind[0]:.2f} s"
                raise cut_off(name, done, kind[0], promised)
            # The 4 header bytes of the frame at which it stopped are already out of the pipe.
            following = mp3.next_start(path, part.finish() - 4, last)
            part.close()
            if following is None or following.at <= at:
                return
            try:
                at, part = following.at, _Pipe(path, following.at, last, stack)
            except soundfile.LibsndfileError as error:
                raise cut_off(name, done, kind[0], reason(error)) from None
            other = part.file.samplerate, part.file.channels
            if other != kind:
                raise joined(name, done, kind, other)

    return Decoder(name, *kind, samples, 0, chunks())


class _Pipe:
    """A range of a file's bytes, read by libsndfile through a pipe.

    Args:
        path: the file.
        first: the first byte of the range.
        last: the byte after the range.
        stack: owns everything that must be closed.

    Raises:
        soundfile.LibsndfileError: libsndfile cannot read them.
    """

    def __init__(self, path: str, first: int, last: int, stack: ExitStack) -> None:
        self._last = last
        self._out, into = os.pipe()

        def feed() -> None:
            # The pipe breaks when the reader closes its end before it has read all.
            with (
                suppress(BrokenPipeError),
                os.fdopen(into, "wb") as pipe,
                Path(path).open("rb") as file,
            ):
                file.seek(first)
                while data := file.read(min(1 << 16, last - file.tell())):
                    pipe.write(data)

        feeder = threading.Thread(target=feed, daemon=True)
        feeder.start()
        self._stack = stack.enter_context(ExitStack())
        self._stack.callback(feeder.join)
        self._stack.callback(os.close, self._out)
        self.file = self._stack.enter_context(_Forward(self._out, closefd=False))

    def finish(self) -> int:
        """Drain the pipe; return the offset in the file at which the reader stopped."""
        left = 0
        while data := os.read(self._out, 1 << 16):
            left += len(data)
        return self._last - left

    def close(self) -> None:
        """Close the pipe; `stack` does so too."""
        self._stack.close()
