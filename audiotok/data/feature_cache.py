"""Features of recordings that a teacher gave, computed once and kept on disk.

    CACHE/hashes.json                          hash of each audio file, by path, size and time
    CACHE/whisper-6-f386e6e810af4bad/          teacher, layer, fingerprint of the weights
        about.json                             the same as data, with width and frame rate
        3f/3f9c...npy                          hash of the audio file (and text): `[f d]`, fp16

A name says all that a file's content depends on and a file appears when it is complete, so any
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
from audiotok._platform.atomic import part_of, sweep
from audiotok.audio.audio import Audio, AudioFileError
from audiotok.data.features.base import Choice, Teacher
from audiotok.data.manifest import Recording

log = logging.getLogger("audiotok")

BAD = 0.1  # share of recordings that may be unreadable; more, and it is not the recordings


class Features:
    """Cached features of recordings, by their place in the list given.

    They can be sent to other processes. Each crop maps its file anew, so memory does not grow.

    Attributes:
        files: each recording's; None where there are no features.
        width: d.
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

    def at(self, frame_rate: Fraction) -> Features:
        """Return the features at a rate that goes into theirs a whole number of times, means of
        neighbours; at any other rate, these features as they are.

        Args:
            frame_rate: features per second.
        """
        ratio = self.frame_rate / frame_rate
        if ratio.denominator != 1:
            return self
        mean_of = self.mean_of * ratio.numerator
        return Features(self.files, width=self.width, frame_rate=frame_rate, mean_of=mean_of)

    @classmethod
    def build(
        cls,
        recordings: Sequence[Recording],
        teacher: Teacher,
        *,
        layer: Choice,
        cache: str | Path,
        console: Console | None = None,
    ) -> Features:
        """Compute what the cache does not hold yet.

        The order is random, another in every process: several share the work, and a part of it is
        a fair sample. A teacher that reads text passes over recordings without.

        Args:
            recordings: of any length and rate.
            teacher: on the device that it is to run on.
            layer: one of the teacher's hidden states, or "mean".
            cache: a folder; each frame takes two bytes a feature.
            console: where progress goes; stderr if None.

        Raises:
            ValueError: more than a tenth of the recordings cannot be read (fewer are warned of and
                have no features), features as long as another recording, or beyond fp16.
        """
        teacher.check_layer(layer)
        folder = Path(cache) / f"{teacher.name}-{layer}-{teacher.fingerprint}"
        folder.mkdir(parents=True, exist_ok=True)
        sweep([folder, *(path for path in folder.iterdir() if path.is_dir())])
        about = {
            "teacher": teacher.name,
            "layer": layer,
            "fingerprint": teacher.fingerprint,
            "width": teacher.width,
            "frame_rate": str(teacher.frame_rate),
            "reads_text": teacher.reads_text,
        }
        _write(folder / "about.json", json.dumps(about, indent=1).encode())
        console = console or Console(stderr=True)
        files = _files(recordings, folder, reads_text=teacher.reads_text, console=console)
        missing = [i for i, file in enumerate(files) if file and not _sound(file, teacher.width)]
        random.Random(os.getpid()).shuffle(missing)
        for i in _shown(missing, f"features of {teacher.name}", console):
            file = files[i]
            if file and not _sound(file, teacher.width):  # by now another process may have made it
                try:
                    made = _compute(recordings[i], teacher, layer)
                except AudioFileError as error:
                    log.warning("%s; it has no features", error)
                    continue
                file.parent.mkdir(exist_ok=True)
                _write(file, made)
        features = cls.open(recordings, folder, console=console)
        spoken = [r for r in recordings if r.text or not teacher.reads_text]
        bad = len(spoken) - sum(file is not None for file in features.files)
        if bad > BAD * len(spoken):
            raise ValueError(
                f"{bad} of {len(spoken)} recordings have no features: see the warnings above"
            )
        return features

    @classmethod
    def open(
        cls,
        recordings: Sequence[Recording],
        folder: str | Path,
        *,
        console: Console | None = None,
    ) -> Features:
        """What one folder of a cache holds of these recordings; the teacher is not needed.

        Args:
            recordings: the audio files have to be there, for their hashes.
            folder: one that `build` made, with an about.json in it.
            console: where progress goes; stderr if None.

        Raises:
            ValueError: not such a folder.
        """
        folder = Path(folder)
        try:
            about = jsonfile.parse((folder / "about.json").read_bytes(), "about.json")
            width, rate = int(about["width"]), Fraction(about["frame_rate"])
            reads_text = bool(about["reads_text"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{folder}: no cache of features (its about.json cannot be read: {error});"
                " give a folder that Features.build made"
            ) from None
        console = console or Console(stderr=True)
        files = _files(recordings, folder, reads_text=reads_text, console=console)
        sound = [file if file and _sound(file, width) else None for file in files]
        return cls(sound, width=width, frame_rate=rate)

    def __len__(self) -> int:
        return len(self.files)

    def has(self, recording: int) -> bool:
        """Whether this recording has features."""
        return self.files[recording] is not None

    def crop(self, recording: int, start: int, frames: int) -> Float32[Tensor, "f d"]:
        """`frames` features from frame `start` of a recording; past its end the last one repeats.

        A teacher may give a frame less than a codec (HuBERT 149 for 3 s): the last one stands in.

        Raises:
            ValueError: it has no features.
        """
        kept, n = self._load(recording), self.mean_of
        chosen = np.arange(start * n, (start + frames) * n).clip(max=len(kept) - 1)
        features = torch.from_numpy(kept[chosen].astype(np.float32))
        return features if n == 1 else features.unflatten(0, (frames, n)).mean(1)

    def __getitem__(self, recording: int) -> Float32[Tensor, "f d"]:
        """All features of a recording."""
        return self.crop(recording, 0, -(-len(self._load(recording)) // self.mean_of))

    def _load(self, recording: int) -> np.ndarray:
        file = self.files[recording]
        if file is None:
            raise ValueError(f"recording {recording} has no features; ask `has` first")
        return np.load(file, mmap_mode="r")


def _compute(recording: Recording, teacher: Teacher, layer: Choice) -> bytes:
    """Features of one recording as an .npy file."""
    audio = Audio.load(recording.path)
    made = teacher.features(audio, layer=layer, text=recording.text or None).cpu()
    # Models without padding give up to a frame less than whole frames, others fill up the last.
    whole = int(audio.seconds * teacher.frame_rate)
    if not whole - 1 <= len(made) <= whole + 1:
        raise ValueError(
            f"{recording.path}: {teacher.name} gave {len(made)} frames, but {audio.seconds:.3f} s"
            f" are {whole}; more than one apart, they would not lie beside the audio"
        )
    half = made.half()
    if not half.isfinite().all():
        raise ValueError(
            f"{recording.path}: features of {teacher.name}, layer {layer}, reach"
            f" {made.abs().max():.3g}, which half precision cannot hold; choose another layer"
        )
    file = io.BytesIO()
    np.save(file, half.numpy())
    return file.getvalue()


def _sound(file: Path, width: int) -> bool:
    """Whether it is there, whole and of the right shape."""
    try:
        kept = np.load(file, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return False
    return kept.dtype == np.float16 and kept.ndim == 2 and kept.shape[1] == width and len(kept) > 0


def _files(
    recordings: Sequence[Recording], folder: Path, *, reads_text: bool, console: Console
) -> list[Path | None]:
    """Where the features of each recording belong; None where there is no file, or no text."""
    index = folder.parent / "hashes.json"
    try:
        known: dict[str, list[Any]] = dict(jsonfile.parse(index.read_bytes(), str(index)))
    except (OSError, ValueError, TypeError):  # none yet, or damaged
        known = {}
    fresh = False
    files: list[Path | None] = []
    for recording in _shown(recordings, "hashing", console):
        path = str(recording.path.absolute())
        try:
            status = recording.path.stat()
            seen = [status.st_size, status.st_mtime_ns]
            if known.get(path, [])[:2] != seen:
                known[path] = [*seen, _hash(recording.path.read_bytes())]
                fresh = True
        except OSError as error:
            log.warning("%s: %s; it has no features", recording.path, error.strerror)
            files.append(None)
            continue
        name = known[path][2]
        if reads_text:
            name = _hash(f"{name} {recording.text}".encode())
        there = recording.text or not reads_text
        files.append(folder / name[:2] / f"{name}.npy" if there else None)
    if fresh:
        _write(index, json.dumps(known).encode())
    return files


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _write(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all."""
    part = part_of(path)
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _shown(items: Sequence[Any], what: str, console: Console) -> Iterator[Any]:
    """The items, with a progress bar on a terminal."""
    return iter(
        track(items, what, console=console, transient=True, disable=not console.is_terminal)
    )
