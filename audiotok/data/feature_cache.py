"""A cache of features of recordings by a pretrained model, computed once and stored on disk.

    CACHE/hashes.json                          hash of each audio file, by path, size and time
    CACHE/whisper-6-f386e6e810af4bad/          teacher, layer, fingerprint of the weights
        about.json                             the same as data, with width and frame rate
        3f/3f9c...npy                          hash of the audio file (and text): `[f d]`, fp16

A name contains all that a file's content depends on and a file appears when it is complete, so any
number of processes may fill a cache side by side, and one that was stopped goes on.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import random
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from rich.console import Console
from rich.progress import track
from torch import Tensor

from audiotok._platform import jsonfile
from audiotok._platform.atomic import partial_path, remove_stale_parts
from audiotok._platform.errors import InputError
from audiotok.audio.audio import AudioFileError
from audiotok.data.features.base import Choice, Teacher
from audiotok.data.recording import Recording, stamp_of

log = logging.getLogger("audiotok")

BAD = 0.1  # share of recordings that may be unreadable; with more, something else is wrong


class FeatureCache:
    """Cached features of recordings, indexed by position in the list given.

    An instance can be sent to other processes. Each crop maps its file anew, so memory does not
    grow.

    Attributes:
        files: the feature file of each recording; None where it has no features.
        width: numbers in a feature, d.
        frame_rate: features per second.
        mean_of: features in the cache whose mean is one here.
    """

    def __init__(
        self,
        files: Sequence[Path | None],
        *,
        width: int,
        frame_rate: Fraction,
        mean_of: int = 1,
    ) -> None:
        self.files = list(files)
        self.width = width
        self.frame_rate = frame_rate
        self.mean_of = mean_of

    def at(self, frame_rate: Fraction) -> FeatureCache:
        """Return the features at a rate that goes into theirs a whole number of times, means of
        neighbours; at any other rate, these features as they are.

        Args:
            frame_rate: features per second.
        """
        ratio = self.frame_rate / frame_rate
        if ratio.denominator != 1:
            return self
        mean_of = self.mean_of * ratio.numerator
        return FeatureCache(self.files, width=self.width, frame_rate=frame_rate, mean_of=mean_of)

    @classmethod
    def build(
        cls,
        recordings: Sequence[Recording],
        teacher: Teacher,
        *,
        layer: Choice,
        cache: str | Path,
        console: Console | None = None,
    ) -> FeatureCache:
        """Compute the features that the cache does not hold yet, and open it.

        The order is random and different in every process: several share the work, and a part of it
        is a fair sample. A teacher that reads text skips recordings without a transcript.

        Args:
            recordings: recordings of any length and rate.
            teacher: model that computes the features, on the device where it is to run.
            layer: one of the teacher's hidden states, or "mean".
            cache: folder of the cache; each frame takes two bytes a feature.
            console: where progress is shown; stderr if None.

        Raises:
            ValueError: more than a tenth of the recordings cannot be read (fewer are warned of and
                have no features), features as long as another recording, or beyond fp16.
        """
        teacher.check_layer(layer)
        folder = Path(cache) / f"{teacher.name}-{layer}-{teacher.fingerprint}"
        folder.mkdir(parents=True, exist_ok=True)
        remove_stale_parts([folder, *(path for path in folder.iterdir() if path.is_dir())])
        description = {
            "teacher": teacher.name,
            "layer": layer,
            "fingerprint": teacher.fingerprint,
            "width": teacher.width,
            "frame_rate": str(teacher.frame_rate),
            "reads_text": teacher.reads_text,
        }
        _write(folder / "about.json", json.dumps(description, indent=1).encode())
        console = console or Console(stderr=True)
        files = _files(recordings, folder, reads_text=teacher.reads_text, console=console)
        width = teacher.width
        missing = [i for i, file in enumerate(files) if file and not _is_complete(file, width)]
        random.Random(os.getpid()).shuffle(missing)
        for i in _with_progress(missing, f"features of {teacher.name}", console):
            file = files[i]
            if file and not _is_complete(file, width):  # another process may have written it
                try:
                    content = _compute(recordings[i], teacher, layer)
                except AudioFileError as error:
                    log.warning("%s; it has no features", error)
                    continue
                file.parent.mkdir(exist_ok=True)
                _write(file, content)
        features = cls.open(recordings, folder, console=console)
        eligible = [r for r in recordings if r.text or not teacher.reads_text]
        bad = len(eligible) - sum(file is not None for file in features.files)
        if bad > BAD * len(eligible):
            raise InputError(
                f"{bad} of {len(eligible)} recordings have no features: see the warnings above"
            )
        return features

    @classmethod
    def open(
        cls,
        recordings: Sequence[Recording],
        folder: str | Path,
        *,
        console: Console | None = None,
    ) -> FeatureCache:
        """Open one folder of a cache for these recordings, without the teacher.

        Args:
            recordings: recordings whose audio files exist, for their hashes.
            folder: a folder that `build` wrote, with an about.json in it.
            console: where progress is shown; stderr if None.

        Raises:
            ValueError: not such a folder.
        """
        folder = Path(folder)
        try:
            description = jsonfile.parse((folder / "about.json").read_bytes(), "about.json")
            width, rate = int(description["width"]), Fraction(description["frame_rate"])
            reads_text = bool(description["reads_text"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{folder}: no cache of features (its about.json cannot be read: {error});"
                " give a folder that Features.build made"
            ) from None
        console = console or Console(stderr=True)
        files = _files(recordings, folder, reads_text=reads_text, console=console)
        complete = [file if file and _is_complete(file, width) else None for file in files]
        return cls(complete, width=width, frame_rate=rate)

    def __len__(self) -> int:
        return len(self.files)

    def has(self, recording: int) -> bool:
        """Return whether a recording, given by its index, has features."""
        return self.files[recording] is not None

    def crop(self, recording: int, start: int, frames: int) -> Float32[Tensor, "f d"]:
        """Return the features `[f d]` of `frames` frames from frame `start` on of a recording.

        Past its end the last feature repeats: a model may give a frame less than a codec (HuBERT
        149 for 3 s).

        Args:
            recording: index of the recording.
            start: first frame.
            frames: number of frames.

        Raises:
            ValueError: the recording has no features.
        """
        kept, n = self._load(recording), self.mean_of
        chosen = np.arange(start * n, (start + frames) * n).clip(max=len(kept) - 1)
        features = torch.from_numpy(kept[chosen].astype(np.float32))
        return features if n == 1 else features.unflatten(0, (frames, n)).mean(1)

    def __getitem__(self, recording: int) -> Float32[Tensor, "f d"]:
        """Return all features `[f d]` of a recording."""
        return self.crop(recording, 0, -(-len(self._load(recording)) // self.mean_of))

    def _load(self, recording: int) -> np.ndarray:
        """Return the stored features of a recording as a memory map."""
        file = self.files[recording]
        if file is None:
            raise InputError(f"recording {recording} has no features; ask `has` first")
        return np.load(file, mmap_mode="r")


def _compute(recording: Recording, teacher: Teacher, layer: Choice) -> bytes:
    """Return the features of one recording as the content of an .npy file."""
    audio = recording.load()
    features = teacher.features(audio, layer=layer, text=recording.text or None).cpu()
    # Models without padding give up to a frame less than whole frames, others fill up the last.
    whole = int(audio.seconds * teacher.frame_rate)
    if not whole - 1 <= len(features) <= whole + 1:
        raise InputError(
            f"{recording.name}: {teacher.name} gave {len(features)} frames, but"
            f" {audio.seconds:.3f} s are {whole}; more than one apart, they would not lie beside"
            " the audio"
        )
    half = features.half()
    if not half.isfinite().all():
        raise InputError(
            f"{recording.name}: features of {teacher.name}, layer {layer}, reach"
            f" {features.abs().max():.3g}, which half precision cannot hold; choose another layer"
        )
    file = io.BytesIO()
    np.save(file, half.numpy())
    return file.getvalue()


def _is_complete(file: Path, width: int) -> bool:
    """Return whether a feature file exists, is complete and has the right shape."""
    try:
        features = np.load(file, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return False
    right_form = features.dtype == np.float16 and features.ndim == 2
    return right_form and features.shape[1] == width and len(features) > 0


def _files(
    recordings: Sequence[Recording], folder: Path, *, reads_text: bool, console: Console
) -> list[Path | None]:
    """Return the feature file of each recording, None where there is no audio file or no text."""
    index = folder.parent / "hashes.json"
    try:
        known: dict[str, list[Any]] = dict(jsonfile.parse(index.read_bytes(), str(index)))
    except (OSError, ValueError, TypeError):  # none yet, or damaged
        known = {}
    changed = False
    files: list[Path | None] = []
    for recording in _with_progress(recordings, "hashing", console):
        locator, path = recording.locator, _hashed_path(recording)
        try:
            status = Path(locator.local).stat() if path else None
            size_and_time = status and [status.st_size, status.st_mtime_ns]
            if size_and_time and known.get(path, [])[:2] != size_and_time:
                known[path] = [*size_and_time, _hash(_content(recording))]
                changed = True
        except OSError as error:
            log.warning("%s: %s; it has no features", recording.name, error.strerror)
            files.append(None)
            continue
        name = known[path][2] if path else _hash(json.dumps(stamp_of(recording)).encode())
        if path and locator.stretch is not None:
            name = _hash(f"{name} {locator.stretch}".encode())
        if reads_text:
            name = _hash(f"{name} {recording.text}".encode())
        eligible = recording.text or not reads_text
        files.append(folder / name[:2] / f"{name}.npy" if eligible else None)
    if changed:
        _write(index, json.dumps(known).encode())
    return files


def _hashed_path(recording: Recording) -> str:
    """Return the path under which the hash of a recording's bytes is kept; "" if it is not hashed.

    It is not where the bytes are in no file of this machine, or end somewhere within one.
    """
    locator = recording.locator
    if not locator.local or (not locator.copy and locator.offset and locator.size is None):
        return ""
    path = str(Path(locator.local).absolute())
    within = not locator.copy and locator.size is not None
    return f"{path} {locator.offset}+{locator.size}" if within else path


def _content(recording: Recording) -> bytes:
    """Return the bytes of a recording, which are a file or a part of one."""
    locator = recording.locator
    if locator.copy or locator.size is None:
        return Path(locator.local).read_bytes()
    with Path(locator.local).open("rb") as file:
        file.seek(locator.offset)
        return file.read(locator.size)


def _hash(content: bytes) -> str:
    """Return a hash of 32 hexadecimal digits."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _write(path: Path, content: bytes) -> None:
    """Write a file that appears when it is complete."""
    part = partial_path(path)
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _with_progress(items: Sequence[Any], what: str, console: Console) -> Iterator[Any]:
    """Yield the items, with a progress bar on a terminal."""
    return iter(
        track(items, what, console=console, transient=True, disable=not console.is_terminal)
    )
