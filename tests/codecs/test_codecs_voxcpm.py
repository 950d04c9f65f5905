"""VoxCPM's AudioVAE is what package voxcpm computes, at any length and as a stream."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commandline import audiotok
from contracts import assert_close
from golden import voxcpm as golden
from random_weights import dac_weights, folder_of
from torch import Tensor

from audiotok.audio.audio import Audio
from audiotok.codecs.checkpoint import CheckpointError, load
from audiotok.codecs.models.base import Codec
from audiotok.codecs.models.voxcpm import Config, Voxcpm
from audiotok.runtime.stream import Stream

FRAME = golden.FRAME
SMALL = Config(sample_rate=8000, encoder=4, decoder=48, strides=(2, 5, 3, 4), features=8)


@pytest.fixture(scope="module")
def state(stored: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """The package's weights."""
    return dac_weights(json.loads(str(stored["shapes"])), json.loads(str(stored["gains"])))


@pytest.fixture(scope="module")
def folder(
    stored: dict[str, np.ndarray],
    state: dict[str, Tensor],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    return folder_of(state, str(stored["options"]), tmp_path_factory.mktemp("folder"))


@pytest.fixture(scope="module")
def codec(folder: Path) -> Codec:
    return load(folder)


def assert_parity(codec: Codec, samples: int, latents: Tensor, wave: Tensor, near: float) -> None:
    """Assert that latents of noise, and what these decode to, are those of the package."""
    given: Any = codec.encode(Audio(golden.noise(samples)[0], codec.sample_rate))
    assert_close(torch.from_numpy(given.values.copy()), latents, 1e-5)
    decoded = codec.decode(latents.numpy(), samples=samples).samples
    assert wave.abs().max() > 0.01
    assert_close(decoded, wave[:, :samples], near)


@pytest.mark.parametrize("samples", golden.LENGTHS)
def test_latents_and_waves_are_those_of_the_package(
    codec: Codec, stored: dict[str, np.ndarray], samples: int
):
    latents, wave = (torch.from_numpy(stored[f"{kind} {samples}"]) for kind in ("latents", "wave"))
    assert_parity(codec, samples, latents, wave, 1e-5)


def test_a_frame_sees_no_last_samples_of_its_own(codec: Codec):
    """Strides 5 and 3 lag by a step each, at a half and a tenth of the rate."""
    assert codec.receptive_field[1] == -(2 + 10)


@pytest.mark.parametrize("most", [7, 400])
def test_a_stream_equals_the_whole_at_any_cut(codec: Codec, most: int):
    audio = Audio(golden.noise(60 * FRAME + 33)[0], codec.sample_rate)
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


def test_the_config_is_read(codec: Codec, folder: Path, tmp_path: Path):
    assert (codec.name, codec.config) == ("voxcpm", SMALL)
    done = audiotok("convert", folder, tmp_path / "ours.safetensors", "--json")
    assert done.code == 0, done.err
    assert done.json["config"]["strides"] == [2, 5, 3, 4]
    assert load(tmp_path / "ours.safetensors").fingerprint == codec.fingerprint


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gain": 2}, r"config\.json has options that are not known here: gain$"),
        ({"use_noise_block": True}, "has use_noise_block=True, and the network here False$"),
        ({"encoder_rates": [2, 5, 4, 3]}, r"has strides \(2, 5, 4, 3\), and the weights \(2, 5, 3"),
        ({"decoder_rates": [4, 3, 5, 3]}, r"has decoder_rates=\[4, 3, 5, 3\], and the network"),
        ({"sample_rate": None}, r"tell no sample rate: give it as \"sample_rate\" in config\.json"),
    ],
)
def test_options_are_used_or_refused(
    stored: dict[str, np.ndarray],
    state: dict[str, Tensor],
    tmp_path: Path,
    change: dict[str, Any],
    words: str,
):
    options = json.loads(str(stored["options"])) | change
    told = {name: value for name, value in options.items() if value is not None}
    with pytest.raises(CheckpointError, match=words):
        load(folder_of(state, json.dumps(told), tmp_path))


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        ("decoder.sr_bin_boundaries", r"AudioVAE V2 \(VoxCPM2\), whose decoder is told a rate"),
        ("decoder.model.3.block.2.linear.weight_v", "an AudioVAE with noise in its decoder"),
    ],
)
def test_other_versions_are_refused_by_their_name(
    state: dict[str, Tensor], tmp_path: Path, tensor: str, words: str
):
    with pytest.raises(CheckpointError, match=words):
        load(folder_of(state | {tensor: torch.ones(2, 2, 1)}, "{}", tmp_path))


@pytest.mark.slow
def test_full_size(tmp_path: Path):
    if not golden.available():
        pytest.skip("voxcpm 2.0.3 is not here")
    theirs, _ = golden.loaded(golden.FULL)
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "audiovae.pth")
    codec = load(tmp_path / "audiovae.pth")
    assert (codec.name, codec.config) == ("voxcpm", Voxcpm.presets["voxcpm"])
    assert sum(p.numel() for p in theirs.parameters()) == codec.parameters_trained == 75_355_202
    for samples in (60 * 640 + 77, 5):
        latents = golden.encode(theirs, golden.noise(samples))
        assert_parity(codec, samples, latents, golden.decode(theirs, latents), 1e-4)
