"""Augmentation: closed forms of what each does, and that chance alone decides when."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.signal
import torch
from torch import Tensor

from audiotok.data.augment import (
    Augment,
    add_noise,
    augment_crop,
    coloured,
    low_pass,
    peak,
)

RATE = 16000
EVERY = Augment(gain=1, flip=1, band=1, noise=1)
NOTHING = Augment(gain=0)


def sine(hertz: float, *, seconds: float = 1.0, amplitude: float = 0.5) -> Tensor:
    time = torch.arange(round(RATE * seconds)) / RATE
    return amplitude * torch.sin(2 * math.pi * hertz * time)


def decibels(wave: Tensor, reference: Tensor) -> float:
    return 10 * math.log10(wave.square().mean() / reference.square().mean())


def chance(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_what_is_switched_off_changes_nothing():
    wave = sine(300)
    for seed in range(20):
        heard, wanted = augment_crop(wave, NOTHING, chance(seed), rate=RATE)
        assert heard is wanted
        assert torch.equal(heard, wave)


# -- each alone -------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [-26.0, -6.0, 0.0])
def test_the_peak_is_where_it_should_be(level: float):
    waves = torch.stack([sine(300), sine(700, amplitude=0.9)])
    assert torch.allclose(peak(waves, level).abs().amax(-1), torch.tensor(10 ** (level / 20)))


def test_quiet_crops_are_amplified_26_decibels_at_most_and_silence_stays_silence():
    quiet = sine(300, amplitude=2e-3)
    assert torch.allclose(peak(quiet, 0.0), 20 * quiet)
    assert not peak(torch.zeros(100), 0.0).any()


@pytest.mark.parametrize("cutoff", [3400.0, 4000.0, 5500.0])
def test_a_low_pass_keeps_what_is_below_and_takes_what_is_above(cutoff: float):
    middle = slice(RATE // 20, -RATE // 20)
    for hertz, wanted in {100: 0.0, cutoff - 150: 0.0, cutoff: -6.02}.items():
        wave = sine(hertz)
        made = low_pass(wave, cutoff, rate=RATE)
        assert abs(decibels(made[middle], wave[middle]) - wanted) < 0.02
        assert torch.allclose(made[middle], wave[middle] * 10 ** (wanted / 20), atol=2e-3), "phase"
    for hertz in (cutoff + 150, cutoff + 1500):
        wave = sine(hertz)
        assert decibels(low_pass(wave, cutoff, rate=RATE)[middle], wave[middle]) < -60


def test_a_low_pass_is_no_shock_at_the_edges():
    """A constant goes on beyond its edges; with silence there they would ring."""
    assert torch.allclose(low_pass(torch.full((2, 2000), 0.7), 3400, rate=RATE), torch.tensor(0.7))


def test_a_low_pass_above_all_there_is_does_nothing():
    wave = sine(7900)
    assert low_pass(wave, 8000 + 100, rate=RATE) is wave
    assert low_pass(wave, 8000, rate=RATE) is not wave


@pytest.mark.parametrize("exponent", [0.0, 0.7, 1.0, 2.0])
def test_coloured_noise_falls_as_its_exponent_says(exponent: float):
    noise = coloured(20 * RATE, exponent, chance(), rate=RATE)
    assert noise.dtype == torch.float32
    assert math.isclose(noise.std(), 1, rel_tol=1e-3)
    frequency, power = scipy.signal.welch(noise.numpy(), RATE, nperseg=4096)
    band = (frequency > 60) & (frequency < 7000)
    slope = np.polyfit(np.log10(frequency[band]), np.log10(power[band]), 1)[0]
    assert abs(slope + exponent) < 0.05


@pytest.mark.parametrize("ratio", [-5.0, 0.0, 20.0])
def test_noise_is_as_far_below_as_it_should_be(ratio: float):
    waves = torch.stack([sine(300), sine(500, amplitude=0.01)])
    noise = torch.stack([coloured(RATE, colour, chance(), rate=RATE) for colour in (0.0, 2.0)])
    added = add_noise(waves, noise, ratio) - waves
    for wave, one in zip(waves, added, strict=True):
        assert abs(decibels(wave, one) - ratio) < 0.01


def test_there_is_no_noise_in_silence_and_none_of_silence():
    silence, noise = torch.zeros(RATE), coloured(RATE, 1.0, chance(), rate=RATE)
    assert not add_noise(silence, noise, 0.0).any()
    assert torch.equal(add_noise(sine(300), silence, 0.0), sine(300))


# -- together ---------------------------------------------------------------------------------


def test_the_same_chance_gives_the_same_crop():
    wave = sine(300)
    one, again, other = (
        augment_crop(wave, EVERY, chance(seed), rate=RATE)[0] for seed in (3, 3, 4)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_without_options_half_are_set_to_a_random_peak():
    wave = sine(300, amplitude=0.0875)
    heard = [augment_crop(wave, Augment(), chance(seed), rate=RATE)[0] for seed in range(600)]
    own = [torch.equal(x, wave) for x in heard]
    assert 0.44 < np.mean(own) < 0.56
    peaks = np.array([20 * math.log10(x.abs().max()) for x in heard])[~np.array(own)]
    # Uniform in dB: quantiles on the diagonal.
    assert (
        np.abs(np.quantile(peaks, [0, 0.25, 0.5, 0.75, 1]) - [-26, -19.5, -13, -6.5, 0]).max() < 2
    )
    assert peaks.max() <= 1e-4


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("name", ["gain", "flip", "band", "noise"])
def test_each_is_done_to_its_share_of_crops(name: str, share: float):
    wave = sine(7000)
    given: dict[str, Any] = {"gain": 0.0, name: share}
    options = Augment(**given)
    changed = [
        not torch.equal(augment_crop(wave, options, chance(seed), rate=RATE)[0], wave)
        for seed in range(400)
    ]
    assert abs(np.mean(changed) - share) < 0.08


def test_doing_one_thing_more_often_changes_no_other():
    """A recipe that adds noise is compared with one that does not on the same crops."""
    wave = sine(300)
    loud = Augment(gain=1, noise=1, denoise=True)
    for seed in range(20):
        _, without = augment_crop(wave, Augment(gain=1), chance(seed), rate=RATE)
        _, clean = augment_crop(wave, loud, chance(seed), rate=RATE)
        ratio = clean.abs().max() / without.abs().max()  # turned down where the noise is past 1
        assert ratio <= 1
        assert torch.allclose(clean, without * ratio, atol=1e-6)


def test_cutoffs_are_spread_over_the_octaves():
    click = torch.zeros(4096)
    click[2048] = 1
    options = Augment(gain=0, band=1, band_low=1000, band_high=4000)
    cutoffs = []
    for seed in range(300):
        heard, _ = augment_crop(click, options, chance(seed), rate=RATE)
        spectrum = torch.fft.rfft(heard).abs()
        cutoffs.append((spectrum > 0.5).sum().item() * RATE / 4096)
    assert 990 < min(cutoffs) < 1050
    assert 3900 < max(cutoffs) < 4020
    assert abs(np.median(cutoffs) - 2000) < 150


def test_the_codec_reproduces_noise_unless_it_is_to_leave_it_out():
    wave = sine(300)
    heard, wanted = augment_crop(wave, Augment(gain=0, noise=1), chance(), rate=RATE)
    assert heard is wanted
    assert not torch.equal(heard, wave)
    options = Augment(gain=0, flip=1, noise=1, snr_low=10, snr_high=10, denoise=True)
    heard, wanted = augment_crop(wave, options, chance(), rate=RATE)
    assert torch.allclose(wanted, -wave), "what else is done is done to both"
    assert abs(decibels(wanted, heard - wanted) - 10) < 0.01


def test_past_full_scale_both_are_turned_down():
    wave = sine(300, amplitude=1.0)
    options = Augment(gain=0, noise=1, snr_low=0, snr_high=0, denoise=True)
    heard, wanted = augment_crop(wave, options, chance(), rate=RATE)
    assert math.isclose(heard.abs().max(), 1, rel_tol=1e-6)
    assert torch.allclose(wanted, wave * wanted.abs().max() / wave.abs().max(), atol=1e-6)
    assert wanted.abs().max() < 0.9
    assert abs(decibels(wanted, heard - wanted)) < 0.01


def test_noise_of_ones_own():
    asked: list[int] = []

    def hum(random: np.random.Generator, length: int) -> Tensor:
        asked.append(length)
        return sine(50)[:length]

    wave = sine(3000)
    options = Augment(gain=0, noise=1, snr_low=20, snr_high=20)
    heard, _ = augment_crop(wave, options, chance(), rate=RATE, noise=hum)
    assert asked == [RATE]
    assert torch.allclose(heard - wave, 0.1 * sine(50), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise": 1.5}, "noise is a share of crops, 0 to 1, not 1.5"),
        ({"gain": -0.1}, "gain is a share of crops, 0 to 1, not -0.1"),
        ({"snr_low": 30, "snr_high": 5}, "snr_low 30 is above snr_high 5"),
        ({"band_low": 0}, "band_low must be above 0 Hz, not 0"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=f"^augment: {message}$"):
        Augment(**options)
