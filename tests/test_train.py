"""Training: losses in closed form, and a run that learns, stops, resumes and says what is wrong."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from audiotok.audio import Audio
from audiotok.checkpoint import load, read_card
from audiotok.recipe import Recipe, Train, read_recipe
from audiotok.train import losses
from audiotok.train.loop import LOSSES, draw_keep, learning_rate, train

RATE = 16000


@pytest.fixture(autouse=True)
def _denormals() -> Iterator[None]:
    """`train` switches them off for its process, which is pytest's."""
    yield
    torch.set_flush_denormal(False)


def noise(seed: int = 0, samples: int = 8000) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(2, 1, samples, generator=random)


# -- losses -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_nothing_to_lose_where_nothing_differs(name: str):
    wave = noise()
    floor = 1e-4 if name == "complex_spectrum" else 0.0  # sqrt(1e-8) under its root
    assert LOSSES[name](wave, wave, RATE).item() <= floor + 1e-6
    assert LOSSES[name](noise(1), wave, RATE).item() > 0.05


@pytest.mark.parametrize("gain", [0.1, 0.5, 4.0])
def test_a_gain_costs_what_the_formulas_say(gain: float):
    wave = noise()
    assert math.isclose(
        losses.waveform(gain * wave, wave).item(),
        abs(gain - 1) * wave.abs().mean().item(),
        rel_tol=1e-5,
    )
    # Log magnitudes move by log10 of the gain, at every scale.
    assert math.isclose(
        losses.mel(gain * wave, wave, rate=RATE).item(),
        len(losses.MEL_SCALES) * abs(math.log10(gain)),
        rel_tol=1e-3,
    )
    # |X|^0.3 moves by gain^0.3, its magnitude and its complex value alike.
    wanted = abs(gain**0.3 - 1) * compressed_level(wave)
    for loss in (losses.spectrum, losses.complex_spectrum):
        assert math.isclose(loss(gain * wave, wave).item(), wanted, rel_tol=1e-3)


def compressed_level(wave: Tensor) -> float:
    """Mean of |X|^0.3 over all bins and windows, written with torch's own STFT."""
    levels = []
    for size in (1024, 512, 256):
        spectrum = torch.stft(
            wave[:, 0],
            size,
            size // 2,
            window=torch.hann_window(size),
            pad_mode="constant",
            return_complex=True,
        )
        levels.append((spectrum.abs() / (3 * size / 8) ** 0.5).pow(0.3).mean().item())
    return sum(levels) / 3


def test_phase_costs_in_the_complex_spectrum_alone():
    """A turned sign leaves magnitudes; each complex value is twice its length away."""
    wave = noise()
    assert losses.mel(-wave, wave, rate=RATE).item() < 1e-5
    assert losses.spectrum(-wave, wave).item() < 1e-6
    made = losses.complex_spectrum(-wave, wave).item()
    assert math.isclose(made, 2 * compressed_level(wave), rel_tol=1e-3)


@pytest.mark.parametrize("name", sorted(LOSSES))
@pytest.mark.parametrize("reference", ["silence", "noise"])
def test_the_gradient_is_finite_at_silence_and_points_down(name: str, reference: str):
    wave = torch.zeros(2, 1, 8000) if reference == "silence" else noise()
    silent = torch.zeros(2, 1, 8000, requires_grad=True)
    (slope,) = torch.autograd.grad(LOSSES[name](silent, wave, RATE), silent)
    assert slope.isfinite().all()
    made = noise(1).requires_grad_()
    before = LOSSES[name](made, wave, RATE)
    (slope,) = torch.autograd.grad(before, made)
    assert slope.isfinite().all()
    step = 1e-3 * slope / slope.norm()
    assert LOSSES[name](made - step, wave, RATE) < before


@pytest.mark.parametrize(("size", "bands"), losses.MEL_SCALES)
def test_no_mel_band_is_empty(size: int, bands: int):
    """Each is a mean of bins, so that no scale outweighs the others by the size of its window."""
    bank = losses._mel_bank(RATE, size, bands, torch.device("cpu"))
    assert bank.shape == (size // 2 + 1, bands)
    assert ((bank.sum(0) - 1).abs() < 0.05).all()


# -- schedules --------------------------------------------------------------------------------


def test_the_rate_warms_up_stays_and_falls_to_zero():
    options = Train(steps=100, rate=1.0, warmup=10, cooldown=20)
    rates = [learning_rate(step, options) for step in range(101)]
    assert rates[:10] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert rates[10:81] == [1.0] * 71
    assert rates[80:] == pytest.approx([1 - n / 20 for n in range(21)])


def test_codebooks_are_drawn_by_seed_and_step():
    keep = draw_keep(4000, 8, 0.5, seed=(0, 3))
    assert torch.equal(keep, draw_keep(4000, 8, 0.5, seed=(0, 3)))
    assert not torch.equal(keep, draw_keep(4000, 8, 0.5, seed=(0, 4)))
    assert draw_keep(50, 8, 1.0, seed=(0, 0)).tolist() == [8] * 50
    shares = torch.bincount(keep, minlength=9)[1:] / 4000
    # Half are whole, and an eighth of the other half by chance.
    assert shares.tolist() == pytest.approx([0.5 / 8] * 7 + [0.5 + 0.5 / 8], abs=0.02)


# -- the loop ---------------------------------------------------------------------------------


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    for i, split in enumerate(["train", "train", "dev"]):
        t = torch.arange(2 * RATE) / RATE
        tones = sum(torch.sin(2 * math.pi * f * (i + 2) * t) / 8 for f in (110, 330, 770))
        assert isinstance(tones, Tensor)
        Audio((tones * (t * 9).sin())[None], RATE).save(tmp_path / f"{split}{i}.wav")
    (tmp_path / "m.tsv").write_text(
        "path\tsplit\ntrain0.wav\ttrain\ntrain1.wav\ttrain\ndev2.wav\tdev\n"
    )
    path = tmp_path / "r.toml"
    path.write_text(f"""
codec = "speech"
data = {{manifest = "{tmp_path}/m.tsv", cache = "{tmp_path}/cache", seconds = 0.2, batch = 4}}
loss = {{mel = 1.0, spectrum = 1.0, commitment = 0.25}}
train = {{steps = 6, rate = 5e-3, warmup = 1, cooldown = 0, every = 3}}
[config]
encoder = 16
encoder_blocks = 2
decoder = 16
decoder_blocks = 2
window = 3
heads = 2
latent = 8
codebooks = 2
size = 16
semantic = 4
""")
    return path


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "log.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def saved(out: Path) -> dict[str, Any]:
    return torch.load(out / "last.pt", weights_only=True)


def assert_same(one: Any, other: Any, where: str = "") -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one.keys() - {"seconds"}:
            assert_same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list):
        for i, pair in enumerate(zip(one, other, strict=True)):
            assert_same(*pair, f"{where}.{i}")
    else:
        same = torch.equal(one, other) if isinstance(one, Tensor) else one == other
        assert same, f"{where} differs"


def test_a_run_learns_and_leaves_a_codec(recipe: Path, tmp_path: Path):
    out = tmp_path / "run"
    best = train(read_recipe(recipe), out)
    first, last = rows(out)
    assert (first["step"], last["step"]) == ("3", "6")
    for key in ("mel", "spectrum", "validation"):
        assert float(last[key]) < float(first[key]), key
    assert math.isclose(
        float(last["validation"]),
        float(last["held_mel"]) + float(last["held_spectrum"]),
        abs_tol=1e-4,
    )
    assert best == out / "best.safetensors"
    assert read_card(best)["card"]["step"] == 6
    codec = load(best)
    assert codec.config.size == 16
    assert len(codec.decode(codec.encode(Audio(torch.zeros(1, 777), RATE)))) == 777
    assert not list(out.glob("*.part"))


def test_resumed_is_uninterrupted_bit_for_bit(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # Every step draws from torch's own random state, as entries that come back to life do.
    mel = LOSSES["mel"]
    monkeypatch.setitem(LOSSES, "mel", lambda *args: mel(*args) * (1 + 0.1 * torch.rand(())))
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(read_recipe(recipe), whole)
    train(read_recipe(recipe, ["train.steps=3"]), parts)
    torch.manual_seed(12345)  # another process
    train(read_recipe(recipe), parts)
    assert saved(whole)["step"] == 6
    assert_same(saved(parts), saved(whole))
    # Wall-clock time aside, and the rate of the next step, which the last one has none of.
    clock = {"hours", "speed", "rate"}
    for one, other in zip(rows(parts), rows(whole), strict=True):
        assert {k: one[k] for k in one.keys() - clock} == {
            k: other[k] for k in other.keys() - clock
        }


def test_nothing_is_left_to_do_after_the_last_step(recipe: Path, tmp_path: Path):
    train(read_recipe(recipe, ["train.steps=1"]), tmp_path / "run")
    before = saved(tmp_path / "run")
    train(read_recipe(recipe, ["train.steps=1"]), tmp_path / "run")
    assert_same(saved(tmp_path / "run"), before)
    assert len(rows(tmp_path / "run")) == 1


def test_nan_stops_the_run_at_its_step_and_spoils_nothing(recipe: Path, tmp_path: Path):
    out = tmp_path / "run"
    train(read_recipe(recipe, ["train.steps=3"]), out)
    before = saved(out)
    with pytest.raises(ValueError, match=f"^step 3: the loss is nan on batch 3 of seed 0; .*{out}"):
        train(read_recipe(recipe, ["loss.waveform=nan"]), out)
    assert_same(saved(out), before)


def test_a_time_limit_stops_at_a_checkpoint(recipe: Path, tmp_path: Path):
    train(read_recipe(recipe), tmp_path / "run", minutes=1e-9)
    assert saved(tmp_path / "run")["step"] == 1
    assert [row["step"] for row in rows(tmp_path / "run")] == ["1"]


def wrong(recipe: Path, out: Path, *given: str) -> str:
    settings: Recipe = read_recipe(recipe, list(given))
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        train(settings, out)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_unknown_losses_and_sizes_name_the_known(recipe: Path, tmp_path: Path):
    assert wrong(recipe, tmp_path / "a", "loss.melt=1.0") == (
        f"[loss]: unknown ['melt']; known: {', '.join(LOSSES)}, commitment"
    )
    assert wrong(recipe, tmp_path / "b", "config.sise=3").startswith(
        "[config]: unknown ['sise']; known: sample_rate, frame_size, "
    )
    assert wrong(recipe, tmp_path / "c", "data.train='trian'").endswith(
        "m.tsv: no recording of split 'trian'"
    )
