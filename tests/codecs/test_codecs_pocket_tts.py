"""Pocket TTS's tokenizer is what transformers computes, at any length, and as a stream."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commandline import audiotok
from contracts import assert_close, assert_latents
from random_weights import folder_of
from torch import Tensor

from audiotok.audio import _torchaudio
from audiotok.audio.audio import Audio
from audiotok.codecs.checkpoint import CheckpointError, load
from audiotok.codecs.models.base import Codec
from audiotok.codecs.models.pocket_tts import Config, PocketTts
from audiotok.runtime.stream import Stream

SMALL = Config(
    width=8, strides=(2, 4, 5), halving=4, latent=128, blocks=2, heads=2, window=12, hidden=96
)
RATE = 24_000


def theirs_of(config: Config) -> Any:
    """Return transformers' model, with weights for which latents depend on the signal."""
    _torchaudio.load()
    transformers = pytest.importorskip("transformers")

    torch.manual_seed(0)
    options = transformers.PocketTTSAudioTokenizerConfig(
        num_filters=config.width,
        upsampling_ratios=list(reversed(config.strides)),
        latent_stride=config.halving,
        hidden_size=config.latent,
        upsample_groups=config.latent,
        num_hidden_layers=config.blocks,
        num_attention_heads=config.heads,
        num_key_value_heads=config.heads,
        sliding_window=config.window,
        intermediate_size=config.hidden,
        latent_dim=config.features,
    )
    model = transformers.PocketTTSAudioTokenizerModel(options).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if "scale" in name:
            parameter.copy_(0.3 + 0.3 * torch.rand_like(parameter))
        elif "norm" in name:
            parameter.add_(0.2 * torch.randn_like(parameter))
        elif name.endswith("conv.bias"):
            parameter.mul_(0.1)
    return model


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
        return theirs.encode(x).latents

    assert_latents(codec, samples, encode, lambda x: theirs.decode(x).audio_values)


@pytest.mark.parametrize("samples", [1, 160, 4_321, 80 * 160 + 3])
def test_latents_and_waves_are_those_of_transformers(theirs: Any, codec: Codec, samples: int):
    """Past the window too, and where the last frame is not whole."""
    assert_parity(theirs, codec, samples)


def test_the_config_is_read(codec: Codec, folder: Path, tmp_path: Path):
    assert (codec.name, codec.config) == ("pocket_tts", SMALL)
    done = audiotok("convert", folder, tmp_path / "ours.safetensors", "--json")
    assert done.code == 0, done.err
    told = done.json["config"]
    assert (told["window"], told["features"], told["halving"]) == (12, 32, 4)
    assert load(tmp_path / "ours.safetensors").fingerprint == codec.fingerprint


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gain": 2}, r"config\.json has options that are not known here: gain$"),
        ({"hidden_act": "gelu"}, "has hidden_act='gelu', and the network here 'gelu_pytorch_tanh'"),
        ({"audio_channels": 2}, "has audio_channels=2, and the network here 1$"),
    ],
)
def test_options_are_used_or_refused(
    theirs: Any, tmp_path: Path, change: dict[str, Any], words: str
):
    options = json.loads(theirs.config.to_json_string()) | change
    with pytest.raises(CheckpointError, match=words):
        load(folder_of(theirs.state_dict(), json.dumps(options), tmp_path))


def test_a_stream_equals_the_whole_long_past_the_window(codec: Codec):
    frame = codec.frame_size
    audio = Audio(noise(200 * frame + 33), RATE)
    latents: Any = codec.encode(audio)
    stream = Stream(codec)
    pieces = [stream.encode(piece) for piece in audio.samples.split(frame, 1)]
    live = torch.cat([*pieces, stream.finish_encode()], 1)
    assert_close(live, torch.from_numpy(latents.values.copy()), 1e-5)
    heard = [stream.decode(piece) for piece in live.split(1, 1)]
    wave = torch.cat([*heard, stream.finish_decode()], 1)[:, : len(audio)]
    assert_close(wave, codec.decode(latents).samples, 1e-5)


def test_the_published_sizes():
    with torch.device("meta"):
        codec = PocketTts()
    assert codec.parameters_trained == 20_054_337
    assert (codec.frame_size, codec.width, float(codec.frame_rate)) == (1920, 32, 12.5)
    assert asdict(codec.config)["blocks"] == 2


@pytest.mark.slow
def test_full_size(tmp_path: Path):
    theirs = theirs_of(Config())
    codec = load(folder_of(theirs.state_dict(), theirs.config.to_json_string(), tmp_path))
    assert codec.config == Config()
    assert sum(p.numel() for p in theirs.parameters()) == codec.parameters_trained
    for samples in (300 * 1920 + 77, 5):
        assert_parity(theirs, codec, samples)
    assert np.isfinite(codec.latency)
