"""Pitch: known of tones, absent of noise and silence, whatever the level."""

from __future__ import annotations

import pytest
import torch

from audiotok.nn.pitch import CENTRE, track_pitch

RATE, HOP = 16000, 320


def harmonics(hertz: float, seconds: float = 0.5) -> torch.Tensor:
    """Return a sum of harmonics that fall with their number, as a voice has them."""
    t = torch.arange(round(seconds * RATE)) / RATE
    return sum((torch.sin(2 * torch.pi * n * hertz * t) / n for n in range(1, 9)), 0 * t)


@pytest.mark.parametrize("hertz", [75.0, 110.0, 150.0, 233.1, 380.0])
@pytest.mark.parametrize("level", [0.01, 0.5])
def test_the_pitch_of_a_tone_is_known_within_ten_cents(hertz: float, level: float):
    octaves, voiced = track_pitch(level * harmonics(hertz), rate=RATE, hop=HOP)
    inner = slice(2, -3)
    assert voiced[inner].all()
    cents = 1200 * (octaves[inner] - torch.log2(torch.tensor(hertz / CENTRE)))
    assert cents.abs().max() < 10


def test_noise_and_silence_have_none():
    noise = torch.randn(RATE, generator=torch.Generator().manual_seed(0))
    for wave in (noise, torch.zeros(RATE)):
        octaves, voiced = track_pitch(wave, rate=RATE, hop=HOP)
        assert voiced.float().mean() < 0.1
        assert not octaves[~voiced].any()


@pytest.mark.parametrize("samples", [0, 1, 319, 320, 321, 1000])
@pytest.mark.parametrize("hop", [200, 320, 1280])
def test_a_frame_begun_counts(samples: int, hop: int):
    octaves, voiced = track_pitch(0.1 * harmonics(150)[:samples], rate=RATE, hop=hop)
    assert octaves.shape == voiced.shape == (-(-samples // hop),)
    assert octaves.isfinite().all()
