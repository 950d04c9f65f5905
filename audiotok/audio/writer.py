"""Sink: a recording written to a file by blocks, complete or not at all."""

from __future__ import annotations

import logging
import os
import shutil
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from audiotok._platform.atomic import part_of
from audiotok.audio.decoders import CHUNK, AudioFileError

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger("audiotok")

# extension -> libsndfile's format and the encoding it gets unless `subtype` says otherwise
FORMATS = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
    ".aiff": ("AIFF", "PCM_16"),
    ".aif": ("AIFF", "PCM_16"),
    ".au": ("AU", "PCM_16"),
    ".caf": ("CAF", "PCM_16"),
    ".w64": ("W64", "PCM_16"),
}

# Bits of the encodings that are rounded here.
_BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24}
_BITS |= {"ALAC_16": 16, "ALAC_20": 20, "ALAC_24": 24}


class Sink:
    """An audio file being written front to back, in constant memory; a context manager.

    It appears under its name when it is complete: an exception (Ctrl-C too) leaves nothing.
    Samples past full scale are clipped, and counted in one warning, unless `subtype` is "FLOAT"
    or "DOUBLE".

    Args:
        path: where to; the extension says the format: wav, flac, ogg, opus, mp3, aiff ...
        rate: Hz.
        channels: how many.
        subtype: libsndfile's name of the encoding, e.g. "PCM_24" or "FLOAT"; 16 bits if None.
        force: overwrite what is there.
        comment: kept in the file where its format has a place for it.

    Raises:
        AudioFileError: the file exists, its format is unknown or cannot hold this audio, or the
            disk is full or refuses; here, on entering, in `write` or on leaving.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        rate: int,
        channels: int = 1,
        *,
        subtype: str | None = None,
        force: bool = False,
        comment: str = "",
    ) -> None:
        self.path, self.rate, self.channels = Path(path), rate, channels
        if self.path.suffix.lower() not in FORMATS:
            raise AudioFileError(f"{path}: unknown format; known: {' '.join(FORMATS)}")
        there = False
        with suppress(PermissionError):  # which opening the file explains better
            there = self.path.exists()
        if there and not force:
            raise AudioFileError(f"{path}: exists already; force=True (--force) overwrites it")
        self.format, usual = FORMATS[self.path.suffix.lower()]
        self.subtype = subtype or usual
        if not soundfile.check_format(self.format, self.subtype):
            known = " ".join(soundfile.available_subtypes(self.format))
            raise AudioFileError(
                f"{path}: {self.format} cannot hold {self.subtype}; it can: {known}"
            )
        self.samples = 0  # written so far
        self._clipped, self._peak = 0, 0.0
        self.force, self.comment = force, comment
        self._part = part_of(self.path)

    def __enter__(self) -> Sink:
        try:
            self._file = soundfile.SoundFile(
                self._part, "w", self.rate, self.channels, self.subtype, format=self.format
            )
            if self.comment:
                with suppress(soundfile.LibsndfileError):
                    self._file.comment = self.comment
        except (OSError, ValueError, soundfile.LibsndfileError) as error:
            raise self._failed(error) from None
        return self

    def write(self, samples: np.ndarray | Tensor) -> None:
        """Adds samples `[c t]`; see the class for what is raised."""
        if not isinstance(samples, np.ndarray):
            samples = samples.detach().cpu().numpy()
        self.samples += samples.shape[1]
        if self.subtype not in ("FLOAT", "DOUBLE") and samples.size:
            size = np.abs(samples)
            self._clipped += int((size > 1).sum())
            self._peak = max(self._peak, float(size.max()))
            samples = samples.clip(-1, 1)
        try:
            for at in range(0, samples.shape[1], CHUNK):  # libvorbis overflows its stack on more
                block = samples[:, at : at + CHUNK]
                self._file.write(_rounded(block, self.subtype).T)
        except (OSError, ValueError, soundfile.LibsndfileError) as error:
            raise self._failed(error) from None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is not None:
                with suppress(OSError, soundfile.LibsndfileError):
                    self._file.close()
                return
            self._file.close()
            if not self.force and self.path.exists():  # it came in the meantime
                raise AudioFileError(f"{self.path}: exists already; --force overwrites it")
            if not self.samples and self.format in ("FLAC", "MP3", "OGG"):
                raise AudioFileError(
                    f"{self.path}: {self.format} cannot hold 0 samples; save it as .wav"
                )
            self._part.replace(self.path)
        except (OSError, soundfile.LibsndfileError) as failure:
            raise self._failed(failure) from None
        finally:
            self._discard()
        if self._clipped:
            log.warning("%s: %d samples clipped (peak %.2f)", self.path, self._clipped, self._peak)

    def _discard(self) -> None:
        with suppress(OSError):  # not there, or in a folder that may not be entered
            self._part.unlink()

    def _failed(self, error: Exception) -> AudioFileError:
        self._discard()
        return _not_written(self.path, error, self.rate, self.channels)


def _rounded(samples: np.ndarray, subtype: str) -> np.ndarray:
    """Samples as the nearest integers of an encoding: libsndfile rounds down, half a step low."""
    bits = _BITS.get(subtype)
    if bits is None:
        return samples
    full = 2 ** (bits - 1)
    kind = np.int16 if bits <= 16 else np.int32  # libsndfile keeps the upper bits of either
    steps = (samples.astype(np.float64) * full).round().clip(max=full - 1)
    return (steps * 2 ** (8 * kind().itemsize - bits)).astype(kind)


def _not_written(path: Path, error: Exception, rate: int, channels: int) -> AudioFileError:
    """What went wrong in writing, in one line."""
    if isinstance(error, PermissionError):
        return AudioFileError(f"{path}: no permission to write in {path.parent}")
    if not path.parent.is_dir():
        return AudioFileError(f"{path}: there is no folder {path.parent}; make it first")
    if isinstance(error, soundfile.LibsndfileError) and error.code != 2:  # 2: the system's fault
        kind = f"{channels} channels at {rate} Hz"
        why = error.error_string.removeprefix("Error : ").rstrip(".")
        return AudioFileError(f"{path}: this format cannot hold {kind} ({why}); try .wav or .flac")
    if isinstance(error, ValueError):
        return AudioFileError(f"{path}: {error}")
    if not os.access(path.parent, os.W_OK):
        return AudioFileError(f"{path}: no permission to write in {path.parent}")
    free = shutil.disk_usage(path.parent).free / 1e6
    why = "could not be written" if free > 1 else "no space left on the device"
    return AudioFileError(f"{path}: {why} ({free:.1f} MB free); free some and run again")
