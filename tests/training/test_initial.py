"""Initial weights that depend on data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from audiotok.audio.audio import Audio
from audiotok.codecs.models.beats_random import BeatsRandom
from audiotok.codecs.models.wavtokenizer import Config, Wavtokenizer
from audiotok.nn.layers.chain import Chain
from audiotok.nn.layers.conv import Conv
from audiotok.training.initial import scale_encoder
from audiotok.training.loop import CodecTrainer
from audiotok.training.recipe import read_recipe

SMALL: dict[str, Any] = {
    "encoder": 4, "strides": (2, 4), "lstm": 1, "latent": 8, "size": 16, "decoder": 8,
    "blocks": 1, "groups": 2,
}  # fmt: skip
RECIPE = """
codec = "wavtokenizer"
[config]
encoder = 4
strides = [2, 4]
lstm = 1
latent = 8
size = 16
decoder = 8
blocks = 1
groups = 2
[data]
manifest = "{folder}/m.tsv"
cache = "{folder}/cache"
seconds = 0.2
batch = 2
workers = 0
[loss]
mel = 1.0
commitment = 1.0
[train]
steps = 4
every = 2
warmup = 1
cooldown = 0
clips = 1
init_from_data = true
"""


@pytest.mark.parametrize("split", [False, True])
def test_every_convolution_gives_features_of_mean_0_and_variance_1(split: bool):
    torch.manual_seed(0)
    codec = Wavtokenizer(Config(**SMALL)).train()
    if split:  # lengths and directions of weights apart, as in training
        codec.split_weights()
    x = wave = 0.05 * torch.randn(2, 1, 4000)
    assert codec.latents(wave).std((0, 2)).mean() < 0.1
    scale_encoder(codec, wave)
    chain = codec.encoder
    assert isinstance(chain, Chain)
    for layer in chain:
        x = layer(x)
        if isinstance(layer, Conv):
            assert x.mean((0, 2)).abs().max() < 1e-4
            assert (x.std((0, 2)) - 1).abs().max() < 1e-4
    torch.testing.assert_close(x, codec.latents(wave))


def test_a_feature_that_does_not_change_stays_finite():
    codec = Wavtokenizer(Config(**SMALL)).train()
    first = next(m for m in codec.encoder.modules() if isinstance(m, nn.Conv1d))
    nn.init.zeros_(first.weight[:1])
    scale_encoder(codec, 0.05 * torch.randn(2, 1, 4000))
    assert all(weight.isfinite().all() for weight in codec.parameters())


def test_an_encoder_of_another_kind_is_refused():
    with pytest.raises(ValueError, match=r"encoder of beats_random is no chain of convolutions"):
        scale_encoder(BeatsRandom(), torch.randn(1, 1, 8000))


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    rows = ["path\tsplit"]
    for name, split in (("a", "train"), ("b", "train"), ("c", "dev")):
        noise = torch.randn(1, 24000, generator=torch.Generator().manual_seed(ord(name)))
        Audio(0.05 * noise, 24000).save(tmp_path / f"{name}.wav")
        rows.append(f"{tmp_path}/{name}.wav\t{split}")
    (tmp_path / "m.tsv").write_text("\n".join(rows) + "\n")
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.format(folder=tmp_path))
    return path


def test_a_run_begins_with_latents_of_variance_1_and_goes_on_with_its_own(
    recipe: Path, tmp_path: Path
):
    def begun(*settings: str) -> CodecTrainer:
        return CodecTrainer(read_recipe(recipe, list(settings)), tmp_path / "run", "cpu")

    plain = begun("train.init_from_data=false")
    assert plain.modules.codec.latents(plain.fixed).std((0, 2)).mean() < 0.1
    run = begun()
    for codec in (run.modules.codec, run.modules.average):
        assert codec.latents(run.fixed).std((0, 2)).mean().item() == pytest.approx(1, abs=1e-3)
    run.go(0)
    trained = {k: v.clone() for k, v in run.modules.codec.state_dict().items()}
    again = begun("train.steps=6")
    assert again.step == 4
    for name, value in again.modules.codec.state_dict().items():
        assert torch.equal(value, trained[name]), name


@pytest.mark.parametrize("setting", ['train.frozen=["encoder"]', 'train.start_from="x"'])
def test_weights_that_are_not_new_are_refused(recipe: Path, tmp_path: Path, setting: str):
    with pytest.raises(ValueError, match=r"^\[train\] init_from_data: for an encoder with new wei"):
        CodecTrainer(read_recipe(recipe, [setting]), tmp_path / "run", "cpu")


def test_silence_leaves_the_size_of_weights_as_it_is():
    torch.manual_seed(0)
    codec = Wavtokenizer(Config(**SMALL)).train()
    before = {key: value.clone() for key, value in codec.encoder.named_parameters()}
    scale_encoder(codec, torch.zeros(2, 1, 800))
    first = next(layer for layer in codec.encoder.modules() if isinstance(layer, nn.Conv1d))
    key = next(k for k, v in codec.encoder.named_parameters() if v is first.weight)
    assert torch.equal(first.weight, before[key])
    most = max(value.abs().max() for key, value in before.items())
    assert max(value.abs().max() for value in codec.encoder.parameters()) < 1000 * most
