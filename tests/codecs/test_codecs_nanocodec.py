"""NanoCodec is what the package nanocodec-torch computes, at any length and as a stream."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from commandline import audiotok
from contracts import assert_close, latents
from golden import nanocodec as golden
from random_weights import folder_of
from sizes import SIZES
from torch import Tensor

from audiotok.audio.audio import Audio
from audiotok.codecs.checkpoint import CheckpointError, load
from audiotok.codecs.models.base import Codec
from audiotok.codecs.models.nanocodec import Config
from audiotok.nn.quantizers.fsq import Fsq
from audiotok.runtime.stream import Stream

(SMALL,) = SIZES["nanocodec"]
OPTIONS = '{"sample_rate": 22050}'


@pytest.fixture(scope="module")
def state(stored: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """The package's weights."""
    return golden.weights(json.loads(str(stored["shapes"])), json.loads(str(stored["gains"])))


@pytest.fixture(scope="module")
def folder(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(state, OPTIONS, tmp_path_factory.mktemp("folder"))


@pytest.fixture(scope="module")
def codec(folder: Path) -> Codec:
    return load(folder)


def audio_of(samples: int) -> Audio:
    return Audio(golden.noise(samples)[0], 22050)


def near_edges(codec: Codec, audio: Audio, one: np.ndarray, other: np.ndarray) -> int:
    """Return how many codes differ, asserting that a feature of each is at the edge of a cell."""
    fsq = next(m for m in codec.modules() if isinstance(m, Fsq))
    width = len(fsq.levels)
    latent = latents(codec, audio).unflatten(0, (-1, width))
    differ = np.argwhere(one != other)
    for k, f in differ:
        steps = fsq.bound(latent[k, :, f]) * fsq.per_unit
        assert ((steps - steps.floor() - 0.5).abs() < 1e-3).any()
    return len(differ)


@pytest.mark.parametrize("samples", golden.LENGTHS)
def test_codes_and_waves_are_those_of_the_package(
    codec: Codec, stored: dict[str, np.ndarray], samples: int
):
    audio, theirs = audio_of(samples), stored[f"codes {samples}"].astype(np.int64)
    tokens = codec.encode(audio)
    assert codec.config == SMALL
    assert tokens.codes.shape == theirs.shape
    assert near_edges(codec, audio, tokens.codes, theirs) <= theirs.size / 1000
    wave = torch.from_numpy(stored[f"wave {samples}"][:, :samples])
    assert_close(codec.decode(replace(tokens, codes=theirs)).samples, wave, 1e-5)


def test_a_stream_equals_the_whole(codec: Codec):
    frame = codec.frame_size
    audio = audio_of(100 * frame + 33)
    tokens, stream = codec.encode(audio), Stream(codec)
    pieces = [stream.encode(piece) for piece in audio.samples.split(frame, 1)]
    live = torch.cat([*pieces, stream.finish_encode()], 1)
    assert near_edges(codec, audio, tokens.codes, live.numpy()) <= 1
    codes = torch.from_numpy(tokens.codes.copy())
    heard = [stream.decode(piece) for piece in codes.split(1, 1)]
    wave = torch.cat([*heard, stream.finish_decode()], 1)[:, : len(audio)]
    assert_close(wave, codec.decode(tokens).samples, 1e-5)


def test_names_of_nemo_are_read_too(state: dict[str, Tensor], codec: Codec, tmp_path: Path):
    """Length and direction of each weight, nested activations, rows of levels, discriminators."""
    theirs: dict[str, Tensor] = {"discriminator.convs.0.weight": torch.ones(2)}
    for name, value in state.items():
        if name.endswith("alpha"):
            theirs[name.replace(".alpha", ".activation.snake_act.alpha")] = value
        elif name.startswith("vector_quantizer"):
            theirs[name] = value[None, :, None]
        elif name.endswith("weight"):
            if "up_sample" in name:
                name, value = name.replace(".weight", ".conv.weight"), value.transpose(1, 2)
            length = value.norm(dim=(1, 2), keepdim=True)
            stem = name.removesuffix(".weight")
            theirs[f"{stem}.parametrizations.weight.original0"] = length
            theirs[f"{stem}.parametrizations.weight.original1"] = value
        else:
            theirs[name.replace(".bias", ".conv.bias") if "up_sample" in name else name] = value
    torch.save(theirs, tmp_path / "model_weights.ckpt")
    other = load(tmp_path / "model_weights.ckpt")
    for key, value in codec.state_dict().items():
        torch.testing.assert_close(other.state_dict()[key], value)


def test_grids_are_read_and_options_are_refused(
    state: dict[str, Tensor], folder: Path, tmp_path: Path
):
    done = audiotok("convert", folder, tmp_path / "ours.safetensors", "--json")
    assert done.code == 0, done.err
    assert done.json["config"]["levels"] == [9, 8, 8, 7]
    assert load(tmp_path / "ours.safetensors").fingerprint == load(folder).fingerprint
    grids = {k: torch.tensor([8, 7, 6, 6]) for k in state if k.endswith("num_levels")}
    assert load(folder_of(state | grids, OPTIONS, tmp_path)).sizes == (2016,) * 4
    grids["vector_quantizer.fsqs.2.num_levels"] = torch.tensor([8, 7, 6, 5])
    with pytest.raises(CheckpointError, match=r"groups of other levels: \(8, 7, 6, 6\) and "):
        load(folder_of(state | grids, OPTIONS, tmp_path))
    folder_of(state, OPTIONS, tmp_path)
    (tmp_path / "config.json").write_text('{"sample_rate": 22050, "bandwidth": 3}', "utf-8")
    with pytest.raises(CheckpointError, match=r"not known here: bandwidth$"):
        load(tmp_path)


# -- beside the package, where it is installed -----------------------------------------------------


@pytest.mark.slow
def test_full_size(tmp_path: Path):
    if not golden.available():
        pytest.skip("nanocodec-torch 1.0.0 is not installed")
    theirs, _ = golden.loaded(golden.FULL)
    codec = load(folder_of(theirs.state_dict(), OPTIONS, tmp_path))
    assert codec.name == "nanocodec"
    assert codec.config == Config()
    assert sum(p.numel() for p in theirs.parameters()) == codec.parameters_trained
    for samples in (60 * 1764, 7 * 1764 + 77):
        audio = audio_of(samples)
        codes = golden.encode(theirs, golden.noise(samples)).numpy()
        tokens = codec.encode(audio)
        assert near_edges(codec, audio, tokens.codes, codes) <= codes.size / 100
        wave = golden.decode(theirs, torch.from_numpy(codes))[:, :samples]
        assert (wave.abs() == 1).float().mean() < 0.01  # cut off
        assert_close(codec.decode(replace(tokens, codes=codes)).samples, wave, 1e-4)
