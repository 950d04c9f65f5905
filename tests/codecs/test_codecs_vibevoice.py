"""VibeVoice's tokenizers are what transformers computes, under the authors' names too."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commandline import audiotok
from contracts import assert_close, assert_latents
from random_weights import folder_of, random_weights
from torch import Tensor

from audiotok.audio import _torchaudio
from audiotok.audio.audio import Audio
from audiotok.codecs.checkpoint import CheckpointError, load
from audiotok.codecs.models.base import Codec
from audiotok.codecs.models.vibevoice import Config, Vibevoice
from audiotok.runtime.stream import Stream
from audiotok.tokens.tokenizer import WrongTokensError

SMALL = Config(width=8, strides=(2, 4, 5), depths=(1, 2, 1, 3), features=12)
RATE = 24_000


def theirs_of(config: Config) -> Any:
    """Return transformers' model, with weights for which latents depend on the signal."""
    _torchaudio.load()
    transformers = pytest.importorskip("transformers")

    model = transformers.VibeVoiceAcousticTokenizerModel(
        transformers.VibeVoiceAcousticTokenizerConfig(
            num_filters=config.width,
            downsampling_ratios=list(config.strides),
            depths=list(config.depths),
            hidden_size=config.features,
            ffn_expansion=config.expansion,
        )
    )
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    state = random_weights(shapes)
    gains = {name: 0.3 + 0.1 * state[name] for name in shapes if name.endswith("gamma")}
    model.load_state_dict(state | gains)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def theirs() -> Any:
    return theirs_of(SMALL)


@pytest.fixture(scope="module")
def folder(theirs: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("folder")
    return folder_of(theirs.state_dict(), theirs.config.to_json_string(), path)


@pytest.fixture(scope="module")
def codec(folder: Path) -> Codec:
    return load(folder)


def noise(samples: int) -> Tensor:
    return 0.1 * torch.randn(1, samples, generator=torch.Generator().manual_seed(samples))


def assert_parity(theirs: Any, codec: Codec, samples: int) -> None:
    def encode(x: Tensor) -> Tensor:
        return theirs.encode(x, sample=False).latents

    assert_latents(codec, samples, encode, lambda x: theirs.decode(x).audio)


@pytest.mark.parametrize("samples", [1, 40, 4_321, 400 * 40 + 3])
def test_latents_and_waves_are_those_of_transformers(theirs: Any, codec: Codec, samples: int):
    assert_parity(theirs, codec, samples)


def authors(name: str) -> str:
    """Return the authors' name of a tensor of transformers'."""
    side, *parts = name.split(".")
    way = "downsample" if side == "encoder" else "upsample"
    if parts[0] == "head":
        return f"{side}.head.conv.{'.'.join(parts[1:])}"
    stage = 0 if parts[0] == "stem" else int(parts[1]) + 1
    rest = parts[1:] if parts[0] == "stem" else parts[2:]
    if rest[0] == "stage":
        inner = ".".join(rest[2:]).replace("mixer.conv.", "mixer.conv.conv.conv.")
        return f"{side}.stages.{stage}.{rest[1]}.{inner}"
    kind = rest[0]  # conv or convtr
    return f"{side}.{way}_layers.{stage}.0.{kind}.{kind}.{rest[-1]}"


def test_the_authors_names_are_read(theirs: Any, codec: Codec, tmp_path: Path):
    state = {authors(name): tensor for name, tensor in theirs.state_dict().items()}
    options = {"vae_dim": 12, "fix_std": 0.5, "std_dist_type": "gaussian", "causal": True}
    again = load(folder_of(state, json.dumps(options), tmp_path))
    assert (again.config, again.fingerprint) == (codec.config, codec.fingerprint)
    (tmp_path / "semantic").mkdir()
    half = {name: tensor for name, tensor in state.items() if name.startswith("encoder")}
    semantic = load(folder_of(half, "{}", tmp_path / "semantic"))
    assert semantic.config == replace(SMALL, decodes=False)
    wave = noise(2_000)
    one: Any = codec.encode(wave, RATE)
    other: Any = semantic.encode(wave, RATE)
    assert np.array_equal(one.values, other.values)


def test_the_config_is_read(codec: Codec, folder: Path, tmp_path: Path):
    assert (codec.name, codec.config) == ("vibevoice", SMALL)
    done = audiotok("convert", folder, tmp_path / "ours.safetensors", "--json")
    assert done.code == 0, done.err
    assert done.json["config"]["deviation"] == 0.625
    assert load(tmp_path / "ours.safetensors").fingerprint == codec.fingerprint


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gain": 2}, r"config\.json has options that are not known here: gain$"),
        ({"hidden_act": "silu"}, "has hidden_act='silu', and the network here 'gelu'$"),
        ({"kernel_size": 5}, "has kernel_size=5, and the network here 7$"),
    ],
)
def test_options_are_used_or_refused(
    theirs: Any, tmp_path: Path, change: dict[str, Any], words: str
):
    options = json.loads(theirs.config.to_json_string()) | change
    with pytest.raises(CheckpointError, match=words):
        load(folder_of(theirs.state_dict(), json.dumps(options), tmp_path))


def test_a_missing_part_is_named(theirs: Any, tmp_path: Path):
    few = dict(theirs.state_dict())
    del few["decoder.stem.stage.1.ffn_gamma"]
    with pytest.raises(CheckpointError, match=r"missing: decoder\.layers\.0\.layers\.4\.scale$"):
        load(folder_of(few, theirs.config.to_json_string(), tmp_path))


@pytest.mark.parametrize("most", [7, 400])
def test_a_stream_equals_the_whole_at_any_cut(codec: Codec, most: int):
    audio = Audio(noise(60 * codec.frame_size + 33), RATE)
    latents: Any = codec.encode(audio)
    stream, random = Stream(codec), np.random.default_rng(most)
    pieces, at = [], 0
    while at < len(audio):
        size = int(random.integers(0, most))
        pieces.append(stream.encode(audio.samples[:, at : at + size]))
        at += size
    live = torch.cat([*pieces, stream.finish_encode()], 1)
    assert_close(live, torch.from_numpy(latents.values.copy()), 1e-5)
    heard = [stream.decode(piece) for piece in live.split(3, 1)]
    wave = torch.cat([*heard, stream.finish_decode()], 1)[:, : len(audio)]
    assert_close(wave, codec.decode(latents).samples, 1e-5)


def test_noise_is_that_of_its_seed_and_grows_with_the_recording(codec: Any):
    audio = Audio(noise(3_000 * codec.frame_size), RATE)
    latents = codec.encode(audio)
    one = codec.sampled(latents, seed=3)
    assert one == codec.sampled(latents, seed=3)
    assert one != codec.sampled(latents, seed=4)
    assert codec.sampled(latents.cut(0, 1), seed=3) == one.cut(0, 1)
    added = one.values - latents.values
    assert abs(added.mean()) < 0.05 * added.std()
    assert np.abs(np.corrcoef(added) - np.eye(len(added))).max() < 0.1
    # Each recording has a deviation of its own, normal around 0.
    short = latents.cut(0, 0.5)
    stds = [
        float((codec.sampled(short, seed=seed).values - short.values).std()) for seed in range(400)
    ]
    assert abs(np.sqrt(np.mean(np.square(stds))) / 0.625 - 1) < 0.1
    assert np.median(stds) == pytest.approx(0.625 * 0.6745, rel=0.15)
    with pytest.raises(WrongTokensError):
        codec.sampled(replace(latents, fingerprint="0" * 16), seed=1)


@pytest.mark.parametrize(
    ("name", "parameters", "width"),
    [("vibevoice_acoustic", 687_392_001, 64), ("vibevoice_semantic", 344_613_600, 128)],
)
def test_the_published_sizes(name: str, parameters: int, width: int):
    with torch.device("meta"):
        codec = Vibevoice(Vibevoice.presets[name])
    assert codec.parameters_trained == parameters
    assert (codec.frame_size, codec.width, float(codec.frame_rate)) == (3200, width, 7.5)
    assert codec.decodes == (name == "vibevoice_acoustic")
    assert codec.receptive_field[0] == 185_562
    assert not [key for key in codec.state_dict() if re.search("entries", key)]
