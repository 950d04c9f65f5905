"""The training card in the weights: recipe, data, seed, audio seen, software, curves."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from audiotok.audio.audio import Audio
from audiotok.codecs.checkpoint import load, read_card, save
from audiotok.training.card import LIBRARIES, software
from audiotok.training.loop import train
from audiotok.training.recipe import Recipe, read_recipe
from audiotok.training.resume import data_digest

RATE = 16000
RECIPE = """
codec = "speech"
[data]
manifest = "{folder}/m.tsv"
cache = "{folder}/cache"
seconds = 0.2
batch = 4
[loss]
mel = 1.0
distillation = 0.0
[train]
steps = 4
warmup = 1
cooldown = 0
every = 2
seed = 7
accumulate = 2
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
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(3):
        t = torch.arange((i + 1) * RATE) / RATE
        Audio(0.3 * torch.sin(2 * math.pi * 220 * (i + 1) * t)[None], RATE).save(
            tmp_path / f"{i}.wav"
        )
    (tmp_path / "m.tsv").write_text(
        "path\tsplit\tspeaker\tlanguage\tlicense\n"
        "0.wav\ttrain\tann\ten\tCC0\n1.wav\ttrain\tbob\tde\tCC0\n2.wav\tdev\tcat\ten\t\n"
    )
    (tmp_path / "r.toml").write_text(RECIPE.format(folder=tmp_path))
    return tmp_path


def recipe(folder: Path, *settings: str) -> Recipe:
    return read_recipe(folder / "r.toml", list(settings))


def card(path: Path) -> dict[str, Any]:
    return read_card(path)["card"]


def test_a_card_says_how_its_weights_came_to_be(folder: Path):
    known = card(train(recipe(folder), folder / "run"))
    step = known["step"]
    assert (known["steps"], known["seed"], known["processes"]) == (4, 7, 1)
    assert known["hours_of_audio"] == pytest.approx(step * 2 * 4 * 0.2 / 3600, abs=1e-6)
    assert known["hours"] >= 0
    options = known["recipe"]
    assert options["loss"] == {"mel": 1.0, "distillation": 0.0}
    assert options["train"]["weight_decay"] == 0.01, "defaults too"
    assert options["config"]["window"] == 3
    assert options["config"]["sample_rate"] == RATE
    assert (known["started_from"], known["changes"]) == (None, [])
    assert known["curves"]["step"] == step
    assert known["curves"]["held_mel"] > 0


def test_a_card_names_the_data(folder: Path):
    data = card(train(recipe(folder), folder / "run"))["data"]
    assert data["manifest"] == "m.tsv"
    assert data["sha256"] == hashlib.sha256((folder / "m.tsv").read_bytes()).hexdigest()
    ours, held_out = data["train"], data["validate"]
    assert ours["split"] == "train"
    assert ours["recordings"] == ours["speakers"] == 2
    assert ours["hours"] == pytest.approx(3 / 3600, abs=1e-6)
    assert (ours["languages"], ours["licences"]) == ({"en": 1, "de": 1}, {"CC0": 2})
    assert (held_out["languages"], held_out["licences"]) == ({"en": 1}, {})
    assert held_out["hours"] == pytest.approx(3 / 3600, abs=1e-6)
    assert len(ours["digest"]) == 64
    assert ours["digest"] != held_out["digest"] != data_digest([])


def test_a_card_names_the_software():
    named = software()
    assert named.keys() == {*LIBRARIES, "python", "commit"}
    assert named["torch"] == torch.__version__


def test_a_resumed_run_goes_on_counting_and_says_what_changed(folder: Path):
    out = folder / "run"
    train(recipe(folder, "train.steps=2"), out)
    # The best weights are chosen anew where they are judged otherwise.
    known = card(train(recipe(folder, "data.batch=8", "train.best=held_mel"), out))
    assert known["step"] == 4
    seconds = 2 * 2 * 4 * 0.2 + 2 * 2 * 8 * 0.2
    assert known["hours_of_audio"] == pytest.approx(seconds / 3600, abs=1e-6)
    (change,) = known["changes"]
    assert change["step"] == 2
    assert "data.batch was 4, now 8" in change["changed"]


def test_audio_that_was_not_counted_is_not_known(folder: Path):
    out = folder / "run"
    train(recipe(folder, "train.steps=2"), out)
    state = torch.load(out / "last.pt", weights_only=True)
    del state["audio"], state["changes"]
    torch.save({**state, "best": math.inf}, out / "last.pt")
    known = card(train(recipe(folder), out))
    assert (known["hours_of_audio"], known["changes"][0]["step"]) == (None, 2)


def test_weights_to_start_from_are_named_by_their_fingerprint(folder: Path):
    first = train(recipe(folder), folder / "first")
    known = card(train(recipe(folder, f"train.start_from={first}"), folder / "second"))
    assert known["started_from"] == {"name": str(first), "fingerprint": load(first).fingerprint}


def test_the_card_is_one_key_of_the_metadata_and_passes_through_save(folder: Path):
    best = train(recipe(folder), folder / "run")
    with safe_open(best, "pt") as file:
        assert json.loads(file.metadata()["card"]) == card(best)
    save(load(best), folder / "copy.safetensors", card=card(best))
    assert card(folder / "copy.safetensors") == card(best)
