"""Units of what is said: shipped weights, their rates, and what leaves the codes as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sizes import made

from audiotok._platform.errors import InputError
from audiotok.audio.audio import Audio
from audiotok.codecs.catalogue import WEIGHTS, shipped_codec
from audiotok.codecs.checkpoint import load, save
from audiotok.codecs.models import units as units_module
from audiotok.codecs.models.units import Config, Units
from audiotok.data.features.base import TeacherError
from audiotok.data.features.whisper import Whisper
from audiotok.evaluation.metrics.cer import Cer
from audiotok.evaluation.tasks.base import add_white_noise
from audiotok.nn.int8 import from_8_bits, rows_in_8_bits
from audiotok.tokens.tokenizer import WrongTokensError

ROOT = Path(__file__).parents[2]
SAID = (
    "it was the best of times it was the worst of times it was the age of wisdom "
    "it was the age of foolishness it was the epoch of belief"
)
RATES = {"units_50hz": 50, "units": 25, "units_12hz": 12.5}


@pytest.fixture(scope="module")
def reading() -> Audio:
    return Audio.load(ROOT / "egs/data/reading.flac").mono().resample(16000)


@pytest.fixture(scope="module", params=RATES)
def units(request: pytest.FixtureRequest) -> Units:
    codec = load(request.param)
    assert isinstance(codec, Units)
    return codec


def kept(one: np.ndarray, other: np.ndarray) -> float:
    """Return the share of codes that are equal."""
    return float((one == other).mean())


def test_they_ship_in_one_file_for_all_rates(units: Units, reading: Audio):
    tokens = units.encode(reading)
    assert float(units.frame_rate) == RATES[units.name]
    assert tokens.codes.shape == (1, -(-len(reading) // units.frame_size))
    shipped = shipped_codec(units.name)
    assert shipped is not None
    assert shipped.fingerprint == units.fingerprint == tokens.fingerprint
    assert (WEIGHTS / "units.safetensors").stat().st_size <= 20 * 2**20


def test_a_change_of_level_leaves_the_codes(units: Units, reading: Audio):
    codes = units.encode(reading).codes
    for decibels in (-20, -6, 6):
        louder = Audio(reading.samples * 10 ** (decibels / 20), reading.rate)
        assert kept(units.encode(louder).codes, codes) > 0.99, decibels


def test_noise_leaves_most_codes(units: Units, reading: Audio):
    noisy = add_white_noise(reading, 20, (0,))
    assert kept(units.encode(noisy).codes, units.encode(reading).codes) > 0.85


def test_the_codes_say_the_words(units: Units, reading: Audio):
    said = units.read(units.encode(reading))
    assert Cer().compare(SAID, said).value < 45, said


def test_codes_of_one_rate_are_refused_at_another(reading: Audio):
    tokens = load("units").encode(reading[:16000])
    with pytest.raises(WrongTokensError, match="units_12hz"):
        load("units_12hz").check_tokens(tokens)


def test_another_rate_is_had_without_loading(reading: Audio):
    codec = load("units")
    assert isinstance(codec, Units)
    other = codec.at(4)
    assert other.name == "units_12hz"
    assert other.encode(reading) == load("units_12hz").encode(reading)
    with pytest.raises(InputError, match="pool=3"):
        codec.at(3)


def test_silence_has_codes():
    codes = load("units").encode(Audio(torch.zeros(1, 16000), 16000)).codes
    assert codes.shape == (1, 25)


# -- new ones -------------------------------------------------------------------------------------


def test_new_ones_begin_with_the_blocks_of_whisper(monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    whisper = Whisper().eval()
    monkeypatch.setattr(Whisper, "load", lambda _: whisper)
    monkeypatch.setattr(units_module, "FLOOR", -1e9)  # which Whisper has not
    codec = Units.from_whisper("whisper").eval()
    wave = torch.randn(1, 16000)
    wave *= units_module.LEVEL / wave.square().mean().sqrt()
    with torch.no_grad():
        expected = whisper.chosen(wave, [4])[0].transpose(1, 2)
        assert torch.allclose(codec.features(wave[None]), expected, atol=1e-4)


def test_another_whisper_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Whisper, "load", lambda _: Whisper(width=384, layers=4, heads=6))
    with pytest.raises(TeacherError, match="whisper-tiny: not Whisper base"):
        Units.from_whisper("whisper-tiny")


def test_a_text_is_spelt_in_the_characters_of_the_reader():
    spelt = Units.spell("It\u2019s  NOON, 12!")
    assert "".join(units_module.CHARACTERS[i - 1] for i in spelt) == "it's noon"


# -- weights in 8 bits ----------------------------------------------------------------------------


def test_weights_in_8_bits_are_stored_once_and_for_all(tmp_path: Path):
    """What is loaded from a file gives that file again, so codes never change by saving."""
    codec = made("units", Config(width=256, heads=2, layers=1, adapter=256, bands=20))
    save(codec, tmp_path / "a.safetensors", dtype=torch.int8)
    first = load(tmp_path / "a.safetensors")
    save(first, tmp_path / "b.safetensors", dtype=torch.int8)
    again = load(tmp_path / "b.safetensors")
    assert again.fingerprint == first.fingerprint != codec.fingerprint
    save(codec, tmp_path / "c.safetensors", dtype=torch.float32)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in "ac"]
    assert sizes[0] < 0.4 * sizes[1]


def test_a_matrix_in_8_bits_is_near():
    torch.manual_seed(0)
    weight = torch.randn(64, 32, 3) * torch.logspace(-6, 2, 64)[:, None, None]
    weight[0] = 0
    integers, scale = rows_in_8_bits(weight)
    near = from_8_bits(integers, scale)
    largest = weight.flatten(1).abs().amax(1)[:, None, None]
    assert integers.dtype == torch.int8
    assert ((near - weight).abs() <= largest / 200 + 2**-15).all()
    assert torch.equal(from_8_bits(*rows_in_8_bits(near)), near)
