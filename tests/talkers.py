"""Synthetic talkers, whose phones and voices are known, and log-mel features of them.

A phone is noise of two bands, a voice a filter over all of it, as a throat and a microphone are:
in log-mel features the voice adds a vector to every frame.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from audiotok import Audio
from audiotok._platform import registry
from audiotok.data.features.base import Choice, FeatureFrames, Teacher
from audiotok.nn import mel_bank

RATE, HOP, BANDS, PHONES = 16_000, 320, 24, 12


class Spoken(NamedTuple):
    """A recording, the phone of each frame, and its voice."""

    audio: Audio
    phones: np.ndarray
    voice: int


def _bump(centre: float, width: float, height: float) -> np.ndarray:
    bins = np.linspace(0, 1, HOP // 2 + 1)
    return height * np.exp(-(((bins - centre) / width) ** 2))


def speak(voice: int, frames: int, seed: int) -> Spoken:
    """Return a recording of random phones by a voice."""
    random = np.random.default_rng([seed, voice])
    own = np.random.default_rng(voice)
    throat = sum(_bump(own.random(), 0.25, own.normal() * 1.5) for _ in range(3))
    order = [0]
    for guess in random.integers(0, 5 * PHONES, frames):  # one phone in five is drawn freely
        order.append(int(guess) if guess < PHONES else (5 * order[-1] + 1) % PHONES)
    phones = np.repeat(order[1:], random.integers(3, 8, frames))[:frames]
    shapes = np.stack(
        [_bump(0.04 + 0.07 * p, 0.05, 3) + _bump(1 - 0.06 * p, 0.08, 2) for p in range(PHONES)]
    )
    shaped = np.pad(shapes[phones], ((2, 2), (0, 0)), "edge")
    shaped = np.stack([shaped[i : i + frames] for i in range(5)]).mean(0)  # the mouth moves slowly
    noise = np.fft.rfft(random.normal(size=(frames, HOP)))
    wave = np.fft.irfft(noise * np.exp(shaped + throat - 4), HOP).ravel()
    audio = Audio(torch.from_numpy(wave / np.abs(wave).max() * 0.9).float()[None], RATE)
    return Spoken(audio, phones, voice)


class LogMel(Teacher):
    """Feature extractor without weights: 24 log-mel bands of each 20 ms."""

    name, width, layers, frame_rate = "logmel", BANDS, 0, Fraction(50)
    sizes = {}  # noqa: RUF012

    @classmethod
    def load(cls, weights: str | Path) -> LogMel:
        return cls()

    def features(self, audio: Audio, *, layer: Choice, text: str | None = None) -> FeatureFrames:
        wave = torch.nn.functional.pad(audio.samples[0], (0, -len(audio) % HOP)).view(-1, HOP)
        power = torch.fft.rfft(wave).abs() ** 2
        return (power @ mel_bank(RATE, HOP, BANDS, wave.device) + 1e-6).log()


def know_logmel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the extractor known by its name, as one of a package would be."""
    known = registry.find
    monkeypatch.setattr(
        "audiotok.codecs.models.kmeans.find",
        lambda family, name: LogMel if name == "logmel" else known(family, name),
    )
