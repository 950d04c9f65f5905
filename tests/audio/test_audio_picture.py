"""What audio looks like: its levels are true, and a notebook plays what it shows."""

from __future__ import annotations

import base64
import io
import re
import sys

import numpy as np
import pytest
import soundfile
import torch

from audiotok.audio.audio import Audio
from audiotok.audio.picture import RANGE, decibels, envelope, mel


def sine(hertz: float, *, seconds: float = 1.0, rate: int = 16000, level: float = 1.0) -> Audio:
    time = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    return Audio((level * torch.sin(2 * torch.pi * hertz * time)).float()[None], rate)


def played(html: str) -> tuple[np.ndarray, int]:
    """What the player of a notebook plays, `[t c]`."""
    data = re.findall(r'src="data:audio/wav;base64,([^"]+)"', html)
    assert len(data) == 1
    return soundfile.read(io.BytesIO(base64.b64decode(data[0])), dtype="float32", always_2d=True)


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 96000])
@pytest.mark.parametrize("level", [1.0, 0.01])
def test_a_sine_is_in_its_row_at_its_level(rate: int, level: float):
    levels = decibels(sine(1000, rate=rate, level=level))
    middle = levels[:, levels.shape[1] // 2]
    row = int(middle.argmax())
    places = np.linspace(0, mel(rate / 2), len(levels) + 1)
    assert places[row - 1] <= mel(1000) <= places[row + 2]
    assert middle.max() == pytest.approx(20 * np.log10(level), abs=2)
    assert middle[row + 20] < middle[row] - 60


def test_no_stretch_of_audio_is_left_out_of_a_spectrogram():
    """A click anywhere in a minute is seen in its column."""
    wave = torch.zeros(1, 60 * 16000)
    for place in (123_456, 700_001):
        wave[0, place] = 1.0
    levels = decibels(Audio(wave, 16000))
    assert levels.shape[1] == 1500
    loud = np.flatnonzero(levels.max(0) > -119)
    for place in (123_456, 700_001):
        assert np.abs(loud - place / wave.shape[1] * 1500).min() <= 1
    assert len(loud) <= 6


def test_the_mean_of_rows_and_columns_keeps_the_power():
    noise = Audio(0.1 * torch.randn(1, 32000), 16000)
    fine, coarse = decibels(noise), decibels(noise, rows=20, columns=10)
    assert coarse.shape == (20, 10)
    edges = 700 * (10 ** (np.linspace(0, mel(8000), 161) / 2595) - 1)
    power = (10 ** (fine / 10) * np.diff(edges)[:, None]).sum() / fine.shape[1]
    edges = 700 * (10 ** (np.linspace(0, mel(8000), 21) / 2595) - 1)
    assert (10 ** (coarse / 10) * np.diff(edges)[:, None]).sum() / 10 == pytest.approx(power, 1e-3)


@pytest.mark.parametrize("length", [1, 9, 10, 1000, 1003])
def test_an_envelope_has_every_extreme(length: int):
    wave = np.random.default_rng(length).standard_normal(length)
    low, high = envelope(wave, 10)
    assert len(low) == len(high) == min(10, length)
    assert (low.min(), high.max()) == (wave.min(), wave.max())


@pytest.mark.parametrize("samples", [0, 1, 100, 16000])
@pytest.mark.parametrize("kind", ["waveform", "spectrogram"])
def test_audio_of_any_length_is_plotted(samples: int, kind: str):
    figure = pytest.importorskip("matplotlib.figure").Figure()
    audio = Audio(0.1 * torch.randn(2, samples), 16000)
    given = figure.subplots()
    axes = audio.plot(given, kind=kind, start=3)  # type: ignore[arg-type]
    assert axes is given
    figure.savefig(io.BytesIO())
    assert axes.get_xlim()[0] == 3
    assert axes.get_xlabel() == "seconds"
    if samples == 16000:
        assert axes.get_xlim()[1] == 4
    if kind == "spectrogram":
        names = [label.get_text() for label in axes.get_yticklabels()]
        assert names == ["0", "250", "500", "1k", "2k", "4k", "8k"]
        low, high = axes.get_images()[0].get_clim()
        assert high - low == pytest.approx(RANGE)


def test_a_plot_makes_axes_where_none_are_given_or_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    axes = sine(100).plot()
    assert axes.collections
    pyplot.close(axes.figure)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"audiotok\[plot\]"):
        sine(100).plot()


def test_a_notebook_plays_the_samples():
    audio = Audio(0.3 * torch.randn(2, 4000).clamp(-3, 3), 22050)
    html = audio._repr_html_()
    samples, rate = played(html)
    assert rate == 22050
    assert np.abs(samples.T - audio.samples.numpy()).max() <= 1 / 32768
    assert "0.18 s · 22050 Hz · 2 channels" in html
    assert "<script" not in html
    points = re.findall(r'points="([^"]+)"', html)[0].split()
    places = np.array([point.split(",") for point in points], float)
    assert (places.min(0) >= 0).all()
    assert (places.max(0) <= (600, 60)).all()
    assert np.ptp(places[:, 1]) > 50  # scaled to its peak


def test_a_notebook_cuts_long_audio_and_says_so():
    html = sine(50, seconds=100)._repr_html_()
    samples, rate = played(html)
    assert len(samples) == 30 * rate
    assert "plays the first 30.0 s of 100.0 s" in html
    html = Audio(torch.zeros(8, 48000 * 10), 48000)._repr_html_()
    assert len(html) < 2_100_000
    assert "plays the first 2.0 s of 10.0 s" in html


def test_a_notebook_says_what_is_clipped_and_shows_audio_without_samples():
    html = Audio(torch.tensor([[0.0, 1.5, -2.0]]), 16000)._repr_html_()
    assert "2 samples past full scale are clipped in what is played" in html
    assert played(html)[0].min() == -1
    html = Audio(torch.zeros(1, 0), 16000)._repr_html_()
    assert "0.00 s" in html
    assert "<audio" not in html
