"""Writing of a recording to a file in blocks; the file appears only when it is complete."""

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

from audiotok._platform.atomic import partial_path
from audiotok.audio.base import soundfile_path
from audiotok.audio.decoders import CHUNK, AudioFileError

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger("audiotok")

# extension -> libsndfile's format, and the encoding unless `subtype` names another
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

# Bits of the encodings that `_rounded` rounds to.
_BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24}
_BITS |= {"ALAC_16": 16, "ALAC_20": 20, "ALAC_24": 24}


class Sink:
    """An audio file open for writing from front to back, in constant memory.

    It is a context manager. The file appears under its name when it is complete: an exception
    (Ctrl-C too) leaves nothing. Samples past full scale are clipped, and counted in one warning,
    unless `subtype` is "FLOAT" or "DOUBLE".

    Args:
        path: the file to write; its extension names the format: wav, flac, ogg, opus, mp3 ...
        rate: sample rate in Hz.
        channels: number of channels.
        subtype: libsndfile's name of the encoding, e.g. "PCM_24" or "FLOAT"; 16 bits if None.
        force: whether to overwrite an existing file.
        comment: stored in the file where its format has a field for it.

    Raises:
        AudioFileError: the file exists, its format is unknown or cannot hold this audio, or the
            disk is full or refuses; raised here, on entering, in `write` or on leaving.
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
        self.path = Path(path)
        self.rate = rate
        self.channels = channels
        if self.path.suffix.lower() not in FORMATS:
            raise AudioFileError(f"{path}: unknown format; known: {' '.join(FORMATS)}")
        exists = False
        with suppress(PermissionError):  # opening the file gives a better message
            exists = self.path.exists()
        if exists and not force:
            raise AudioFileError(f"{path}: exists already; force=True overwrites it")
        self.format, usual = FORMATS[self.path.suffix.lower()]
        self.subtype = subtype or usual
        if not soundfile.check_format(self.format, self.subtype):
            known = " ".join(soundfile.available_subtypes(self.format))
            raise AudioFileError(
                f"{path}: {self.format} cannot hold {self.subtype}; it can: {known}"
            )
        self.samples = 0  # a channel, written so far
        self._clipped = 0
        self._peak = 0.0
        self.force = force
        self.comment = comment
        self._part = partial_path(self.path)

    def __enter__(self) -> Sink:
        try:
            self._file = soundfile.SoundFile(
                soundfile_path(self._part),
                "w",
                self.rate,
                self.channels,
                self.subtype,
                format=self.format,
            )
            if self.comment:
                with suppress(soundfile.LibsndfileError):
                    self._file.comment = self.comment
        except (OSError, ValueError, soundfile.LibsndfileError) as error:
            raise self._failed(error) from None
        return self

    def write(self, samples: np.ndarray | Tensor) -> None:
        """Add samples `[c t]`; for errors see the class."""
        if not isinstance(samples, np.ndarray):
            samples = samples.detach().cpu().numpy()
        if not np.isfinite(samples).all():
            raise AudioFileError(f"{self.path}: samples that are not finite (NaN or infinity)")
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
            if not self.force and self.path.exists():  # another process wrote it in the meantime
                raise AudioFileError(f"{self.path}: exists already; force=True overwrites it")
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
        """Remove the unfinished file."""
        with suppress(OSError):  # it does not exist, or its folder may not be entered
            self._part.unlink()

    def _failed(self, error: Exception) -> AudioFileError:
        """Remove the unfinished file and return the error that describes the failure."""
        self._discard()
        return _not_written(self.path, error, self.rate, self.channels)


def _rounded(samples: np.ndarray, subtype: str) -> np.ndarray:
    """Return samples as the nearest integers of an encoding: libsndfile itself rounds down."""
    bits = _BITS.get(subtype)
    if bits is None:
        return samples
    full = 2 ** (bits - 1)
    kind = np.int16 if bits <= 16 else np.int32  # libsndfile takes the upper bits of either
    steps = (samples.astype(np.float64) * full).round().clip(max=full - 1)
    return (steps * 2 ** (8 * kind().itemsize - bits)).astype(kind)


def _not_written(path: Path, error: Exception, rate: int, channels: int) -> AudioFileError:
    """Return the error that describes in one line why writing failed."""
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
