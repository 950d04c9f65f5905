"""Recordings embedded in the page: their choice, audio and spectrograms."""

from __future__ import annotations

import io
import math
import warnings
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from audiotok.audio.audio import Audio
from audiotok.evaluation.metrics.mel import log_mel
from audiotok.evaluation.report.base import ORIGINAL, View, competes
from audiotok.evaluation.report.image import SIGNED, png
from audiotok.evaluation.results import Clip

LONGEST = 12.0  # seconds that the page embeds of a longer recording
BUDGET = 14_000_000  # characters of all embedded recordings; those past it are left out
WORST = 3
WIDTH = 320  # columns of a spectrogram at most
PEAKS = 400  # columns of a waveform
BANDS = 64


def chosen(view: View, count: int) -> list[Clip]:
    """Return the recordings to embed: the worst 3 of the first codec by the first metric, and
    others.

    The others are evenly spaced between the rest's worst and best. Where there are no scores they
    are evenly spaced in the corpus. Only recordings with stored audio are considered.
    """
    with_audio = {name for clips in view.results.audio.values() for name in clips}
    clips = [clip for clip in view.results.clips if clip.name in with_audio]
    subjects = [s.name for s in view.results.subjects if competes(s)]
    codecs = [s.name for s in view.results.subjects if s.kind == "codec"]
    scores: dict[str, float] = {}
    for info in view.results.metrics:
        for subject in (codecs or subjects)[:1]:
            for clip in clips:
                value, _ = view.score(subject, clip.name, info.name)
                if value is not None:
                    scores[clip.name] = -value if info.better == "lower" else value
        if scores:
            break
    first: list[Clip] = []
    if scores:
        clips.sort(key=lambda clip: scores.get(clip.name, math.inf))
        first = clips[: min(WORST, max(count, 0))]
    rest = clips[len(first) :]
    more = min(count - len(first), len(rest))
    step = (len(rest) - 1) / max(more - 1, 1)
    return first + [rest[round(i * step)] for i in range(more)]


def embedded(view: View, folder: Path, count: int) -> Iterator[dict[str, Any]]:
    """Yield the embedded data of each chosen recording, until the budget is used up.

    Yields:
        `clip` and `subjects` (indexes into the results; -1: an original without a row), `audio` and
        `missing` (data or the reason, one of them None), `waves` (`_wave`, or None), `spectra`
        (pictures: decoded, difference; None), `original` (a picture or None), `cut` (whether only
        the first `LONGEST` seconds are here), `seconds`.
    """
    left, any_embedded = BUDGET, False  # the first recording is embedded whatever its size
    order = {clip.name: i for i, clip in enumerate(view.results.clips)}
    for clip in chosen(view, count):
        entry = _entry(view, folder, clip)
        entry["clip"] = order[clip.name]
        left -= sum(
            len(text)
            for key in ("audio", "waves", "spectra")
            for item in entry[key]
            for text in (item if isinstance(item, list) else [item])
            if text
        )
        if left < 0 and any_embedded:
            return
        any_embedded = True
        yield entry


def _entry(view: View, folder: Path, clip: Clip) -> dict[str, Any]:
    """Return the embedded data of a recording."""
    subjects, audio, missing, waves, spectra = [], [], [], [], []
    before: NDArray[np.floating] | None = None
    picture, rate = None, 0
    index = {subject.name: i for i, subject in enumerate(view.results.subjects)}
    # The original comes first, even without a row, since the others are compared with it.
    first = {ORIGINAL: index.get(ORIGINAL, -1)} if ORIGINAL in view.results.audio else {}
    for name, i in (first | index).items():
        path = view.results.audio.get(name, {}).get(clip.name)
        subjects.append(i)
        data, reason, wave, pictures = None, "its audio was not kept", None, None
        if path is not None:
            try:
                recording = Audio.load(folder / path, end=LONGEST)
                data, reason = _data(folder / path, recording, clip.seconds), None
                wave = _wave(recording)
                if name == ORIGINAL:
                    rate = recording.rate
                after = _spectrum(recording, rate or recording.rate)
                if name == ORIGINAL:
                    before, picture = after, png(_shrunk(after)[::-1], -60, 30)
                else:
                    pictures = [png(_shrunk(after)[::-1], -60, 30), _difference(after, before)]
            except (ValueError, OSError) as error:
                data, reason = None, str(error)
        audio.append(data)
        missing.append(reason)
        waves.append(wave)
        spectra.append(pictures)
    return {
        "subjects": subjects,
        "audio": audio,
        "missing": missing,
        "waves": waves,
        "spectra": spectra,
        "original": picture,
        "cut": clip.seconds > LONGEST,
        "seconds": min(clip.seconds, LONGEST),
    }


def _data(path: Path, audio: Audio, seconds: float) -> str:
    """Return a recording as base64 FLAC: the stored file unchanged where it is short enough."""
    if path.suffix == ".flac" and seconds <= LONGEST:
        return b64encode(path.read_bytes()).decode()
    buffer = io.BytesIO()
    samples = audio.samples.clamp(-1, 1).T.numpy()
    soundfile.write(buffer, samples, audio.rate, format="FLAC", subtype="PCM_16")
    return b64encode(buffer.getvalue()).decode()


def _wave(audio: Audio) -> str:
    """Return the lowest and highest sample of each of `PEAKS` stretches, as base64 of bytes.

    They alternate; 0 is -1, 128 is silence and 255 is just below 1.
    """
    samples = audio.mono().samples[0].numpy()
    edges = np.linspace(0, len(samples), min(PEAKS, len(samples)), endpoint=False).astype(int)
    if not len(edges):
        return ""
    pairs = np.stack([f.reduceat(samples, edges) for f in (np.minimum, np.maximum)], 1)
    levels = np.clip(np.round(128 + 128 * pairs), 0, 255).astype(np.uint8)
    return b64encode(levels.tobytes()).decode()


def _spectrum(audio: Audio, rate: int) -> NDArray[np.floating]:
    """Return mel magnitudes in dB `[bands frames]`, lowest band first, at the original's rate."""
    samples = audio.mono().resample(rate).samples[0]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="At least one mel filterbank")  # at a low rate
        return 20 * log_mel(samples, rate, bands=BANDS).numpy()


def _shrunk(decibels: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return at most `WIDTH` columns, each the mean of neighbouring ones."""
    frames = decibels.shape[1]
    if frames <= WIDTH:
        return decibels
    edges = np.linspace(0, frames, WIDTH, endpoint=False).astype(int)
    return np.add.reduceat(decibels, edges, 1) / np.diff(edges, append=frames)


def _difference(after: NDArray[np.floating], before: NDArray[np.floating] | None) -> str | None:
    """Return a picture of decoded minus original, -30 to 30 dB; None without an original."""
    if before is None:
        return None
    frames = min(after.shape[1], before.shape[1])
    return png(_shrunk(after[:, :frames] - before[:, :frames])[::-1], -30, 30, SIGNED)
