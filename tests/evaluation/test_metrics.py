"""Metrics: equal to the packages they stand for, to closed forms, and never a number made up."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

import hypothesis.strategies as st
import numpy as np
import pesq
import pystoi
import pytest
import torch
from hypothesis import given, settings

from audiotok._platform.registry import find, names
from audiotok.audio.audio import Audio
from audiotok.evaluation.bench.work import load_metric, variants
from audiotok.evaluation.metrics.base import Metric, OpinionMetric, Score, pair
from audiotok.evaluation.metrics.mel import group_centres

RATE = 16000


def voice(seconds: float = 2.0, rate: int = RATE, seed: int = 0) -> torch.Tensor:
    """Noise that comes and goes as syllables do `[1 t]`: what PESQ and STOI take for speech."""
    t = torch.arange(round(seconds * rate)) / rate
    noise = torch.randn(len(t), generator=torch.Generator().manual_seed(seed))
    return (0.1 * noise * (1 + torch.sin(2 * math.pi * 4 * t)))[None]


def noisy(wave: torch.Tensor, level: float = 0.05) -> torch.Tensor:
    noise = torch.randn(wave.shape, generator=torch.Generator().manual_seed(1))
    return wave + level * noise


def score(name: str, output: torch.Tensor, reference: torch.Tensor, rate: int = RATE) -> float:
    return find("metrics", name)().score(Audio(output, rate), Audio(reference, rate)).value


# Those that compare output and reference moment by moment and take noise for speech; the others
# have files of tests of their own.
ALIGNED = [
    name
    for name in names("metrics")
    if find("metrics", name).aligned and name not in ("f0", "visqol")
]


# ---- every metric


@pytest.mark.parametrize("name", names("metrics"))
def test_says_what_it_is(name: str):
    metric = find("metrics", name)()
    assert isinstance(metric, Metric)
    assert metric.better in ("higher", "lower")
    assert len(metric.protocol) > 10


@pytest.mark.parametrize("name", ALIGNED)
def test_a_better_output_scores_better(name: str):
    wave = voice()
    near, far = score(name, noisy(wave, 0.01), wave), score(name, noisy(wave, 0.2), wave)
    assert near > far if find("metrics", name).better == "higher" else near < far


@pytest.mark.parametrize("name", ALIGNED)
def test_stereo_counts_by_its_mean(name: str):
    wave = voice()
    output, other = noisy(wave), noisy(wave, 0.1)
    both = torch.cat([output, other])
    assert score(name, both, wave) == pytest.approx(score(name, both.mean(0, keepdim=True), wave))


@pytest.mark.parametrize("name", ALIGNED)
def test_a_sample_more_or_less_is_let_pass(name: str):
    wave = voice()
    output = noisy(wave)
    assert score(name, output[:, :-1], wave) == pytest.approx(score(name, output, wave), abs=0.02)


@pytest.mark.parametrize("name", ALIGNED)
@pytest.mark.parametrize(("output", "reference"), [(32000, 31998), (31000, 32000), (0, 0), (1, 0)])
def test_lengths_that_do_not_go_together(name: str, output: int, reference: int):
    wave = voice()
    with pytest.raises(ValueError, match="samples"):
        score(name, wave[:, :output], wave[:, :reference])


SILENT = {"pesq": "silent", "stoi": "silent", "si_sdr": "silent"}


@pytest.mark.parametrize("name", [name for name in names("metrics") if name in SILENT])
def test_a_silent_reference_is_not_scored(name: str):
    wave = voice()
    with pytest.raises(ValueError, match=SILENT[name]):
        score(name, wave, torch.zeros_like(wave))


@pytest.mark.parametrize("rate", [16000, 24000])  # resampling turns its ends into clicks
@pytest.mark.parametrize("name", ["pesq", "stoi", "si_sdr", "mel", "stft", "stft:dac"])
def test_an_offset_alone_is_silence(name: str, rate: int):
    kind, _, option = name.partition(":")
    metric = find("metrics", kind)(option)
    offset = Audio(torch.full((1, 2 * rate), 0.1), rate)
    assert offset.silent
    assert not Audio(offset.samples + 1e-3 * voice(3.0)[:, : 2 * rate], rate).silent
    with pytest.raises(ValueError, match="silent"):
        metric.score(offset, offset)


@pytest.mark.parametrize("name", ["pesq", "si_sdr"])
def test_a_silent_output_is_not_scored(name: str):
    wave = voice()
    with pytest.raises(ValueError, match="silent"):
        score(name, torch.zeros_like(wave), wave)


@pytest.mark.parametrize("seconds", [0.01, 0.1])
@pytest.mark.parametrize("name", ["pesq", "stoi"])
def test_a_moment_is_not_scored(name: str, seconds: float):
    wave = voice(seconds)
    with pytest.raises(ValueError, match=name.upper()):
        score(name, wave, wave)


@pytest.mark.parametrize("name", ["pesq", "stoi"])
def test_without_the_package(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, name if name == "pesq" else "pystoi", None)
    with pytest.raises(ImportError, match=r"audiotok\[metrics\]"):
        score(name, voice(), voice())


# ---- equal to the packages


def test_pesq_is_that_of_its_package():
    wave = voice()
    output = noisy(wave)
    expected = pesq.pesq(RATE, wave[0].numpy(), output[0].numpy(), "wb")
    assert score("pesq", output, wave) == expected
    assert 1 < expected < 4.6


def test_stoi_is_that_of_its_package():
    wave = voice()
    output = noisy(wave, 0.3)
    expected = pystoi.stoi(wave[0].numpy(), output[0].numpy(), RATE)
    assert score("stoi", output, wave) == pytest.approx(expected, abs=1e-9)
    assert 0.2 < expected < 0.99
    assert score("stoi", torch.zeros_like(wave), wave) == 0


@pytest.mark.parametrize(
    ("name", "direct"),
    [
        ("pesq", lambda made, wanted: pesq.pesq(RATE, wanted, made, "wb")),
        ("stoi", lambda made, wanted: pystoi.stoi(wanted, made, RATE)),
    ],
)
def test_other_rates_are_resampled(name: str, direct: Callable[[np.ndarray, np.ndarray], float]):
    wave = voice(rate=24000)
    output = noisy(wave, 0.1)
    made, wanted = (Audio(x, 24000).resample(RATE).samples[0].numpy() for x in (output, wave))
    assert score(name, output, wave, 24000) == pytest.approx(direct(made, wanted), abs=1e-9)


# ---- closed forms


def orthogonal(decibels: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A sine, and it with a cosine so many dB below it; whole periods, so they are orthogonal."""
    t = torch.arange(RATE, dtype=torch.float64) / RATE
    sine, cosine = torch.sin(2 * math.pi * 100 * t), torch.cos(2 * math.pi * 100 * t)
    mixed = sine + 10 ** (-decibels / 20) * cosine
    return (0.3 * mixed)[None].float(), (0.3 * sine)[None].float()


@settings(deadline=None)
@given(
    decibels=st.floats(-30, 60),
    gain=st.floats(0.01, 3),
    sign=st.sampled_from([1, -1]),
    offset=st.floats(-0.5, 0.5),
)
def test_si_sdr_of_an_orthogonal_error(decibels: float, gain: float, sign: int, offset: float):
    """Whatever the scale, the sign and the offset of the output."""
    output, reference = orthogonal(decibels)
    assert score("si_sdr", sign * gain * output + offset, reference) == pytest.approx(
        decibels, abs=0.05
    )


def test_si_sdr_that_is_infinite_is_no_number():
    wave = voice()
    sine = orthogonal(0)[1]
    for factor in (1.0, 0.5, -0.25):
        with pytest.raises(ValueError, match="infinite"):
            score("si_sdr", factor * wave, wave)
    with pytest.raises(ValueError, match="silent"):
        score("si_sdr", torch.full_like(sine, 0.1), sine)


def test_si_sdr_that_is_minus_infinite_is_no_number():
    wave = torch.zeros(1, 1000)
    other = wave.clone()
    wave[0, 0:2], other[0, 500:502] = torch.tensor([1.0, -1.0]), torch.tensor([1.0, -1.0])
    with pytest.raises(ValueError, match="minus infinity"):
        score("si_sdr", other, wave)


@pytest.mark.parametrize("rate", [8000, 16000, 24000, 48000])
@settings(deadline=None, max_examples=20)
@given(gain=st.floats(0.1, 10))
def test_mel_distance_of_a_gain_is_the_gain(rate: int, gain: float):
    # Noise, so that no band lies at the floor.
    wave = 0.1 * torch.randn(1, rate, generator=torch.Generator().manual_seed(0))
    assert score("mel", gain * wave, wave, rate) == pytest.approx(
        abs(20 * math.log10(gain)), abs=1e-3
    )


def test_bands_of_the_mel_distance_are_its_parts():
    """A tone changes its own band most, and the mean of all bands is the whole."""
    random = torch.Generator().manual_seed(0)
    wave = torch.randn(16000, generator=random) / 50
    other = wave + 0.1 * (2 * math.pi * 1000 * torch.arange(16000) / 16000).sin()
    names = variants("mel:bands")
    assert names == tuple(f"mel:band{i}" for i in range(1, 11))
    both = Audio(other[None], RATE), Audio(wave[None], RATE)
    parts = [load_metric(name, {}).score(*both).value for name in names]
    assert sum(parts) / 10 == pytest.approx(score("mel", other[None], wave[None]))
    loudest = max(range(10), key=parts.__getitem__) + 1
    low, high = group_centres(loudest)
    assert low < 1000 < high
    assert variants("mel:dac") == ("mel:dac",)


def test_mel_distance_is_bounded_by_its_floor():
    silent, wave = torch.zeros(1, RATE), voice()[:, :RATE]
    assert score("mel", silent, silent) == 0
    assert score("mel", wave, silent) == pytest.approx(score("mel", silent, wave))
    assert score("mel", wave, silent) > 60


# ---- scores


numbers = st.floats(-1e6, 1e6)
counts = st.integers(1, 1000)


@settings(deadline=None)
@given(st.lists(st.tuples(numbers, counts), min_size=1, max_size=10))
def test_scores_pool(parts: list[tuple[float, int]]):
    pooled = sum((Score(total, count) for total, count in parts), Score(0, 0))
    count = sum(count for _, count in parts)
    assert pooled.count == count
    assert pooled.value == pytest.approx(math.fsum(total for total, _ in parts) / count, abs=1e-6)


def test_a_mean_over_nothing():
    with pytest.raises(ValueError, match="no recording was scored"):
        _ = Score(0, 0).value


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_is_a_number(value: float):
    with pytest.raises(ValueError, match="came out as"):
        Score(value, 1)
    with pytest.raises(ValueError, match="over"):
        Score(1, value)


def test_a_pair_has_one_length_and_one_rate():
    output, reference = Audio(torch.ones(2, 24001), 24000), Audio(torch.ones(1, 16000), 16000)
    made, wanted = pair(output, reference, rate=16000)
    assert made.shape == wanted.shape == (16000,)
    assert made.dtype == wanted.dtype == torch.float32


class Loudest(OpinionMetric):
    """Whose opinion is the peak; NaN of a peak past 0.9."""

    batch = 2  # seconds

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def opinions(self, waves: torch.Tensor) -> torch.Tensor:
        self.shapes.append(tuple(waves.shape))
        peaks = waves.abs().amax(1)
        return torch.where(peaks > 0.9, torch.nan, peaks)


def test_a_listener_hears_outputs_of_one_length_together():
    """Each scores as alone, in its place; one that fails costs no other."""
    peaks = (0.1, 0.2, 0.0, 0.3, 0.95, 0.4, 0.5)
    lengths = (16000, 8000, 16000, 16000, 16000, 8000, 16000)
    tones = [
        p * torch.tensor([[1.0, -1.0]]).repeat(1, n // 2)
        for p, n in zip(peaks, lengths, strict=True)
    ]
    outputs = [Audio(tone, 16000) for tone in tones]
    many = Loudest().score_many(outputs, outputs)
    for output, peak, found in zip(outputs, peaks, many, strict=True):
        if peak in (0.0, 0.95):
            assert isinstance(found, ValueError)
            with pytest.raises(ValueError, match=str(found)):
                Loudest().score(output, output)
        else:
            assert isinstance(found, Score)
            assert found == Loudest().score(output, output)
            assert found.value == pytest.approx(peak)
    metric = Loudest()
    metric.score_many(outputs, outputs)
    assert metric.shapes == [(2, 16000), (2, 16000), (2, 8000)]
