"""MOSS-Audio-Tokenizer is what its network in vllm-omni computes, at any length and as a stream."""

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
from contracts import assert_close, near_ties
from golden import moss as golden
from random_weights import folder_of
from test_state_dicts import table
from torch import Tensor

from audiotok._platform.registry import find
from audiotok.audio.audio import Audio
from audiotok.codecs.checkpoint import CheckpointError, load
from audiotok.codecs.models.base import Codec
from audiotok.codecs.models.moss import WIDE, Config, Moss
from audiotok.nn.pretrained.state_dicts import check
from audiotok.runtime.stream import Stream

FRAME = golden.FRAME


@pytest.fixture(scope="module")
def state(stored: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """The program's weights."""
    return golden.weights(json.loads(str(stored["shapes"])), json.loads(str(stored["gains"])))


@pytest.fixture(scope="module")
def folder(
    stored: dict[str, np.ndarray],
    state: dict[str, Tensor],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    return folder_of(state, str(stored["config"]), tmp_path_factory.mktemp("folder"))


@pytest.fixture(scope="module")
def codec(folder: Path) -> Codec:
    return load(folder)


def audio_of(samples: int) -> Audio:
    return Audio(golden.noise(samples)[0], 4000)


@pytest.mark.parametrize("samples", golden.LENGTHS)
def test_codes_and_waves_are_those_of_the_program(
    codec: Codec, stored: dict[str, np.ndarray], samples: int
):
    audio, theirs = audio_of(samples), stored[f"codes {samples}"].astype(np.int64)
    tokens = codec.encode(audio)
    assert tokens.codes.shape == theirs.shape
    assert near_ties(codec, audio, tokens.codes, theirs) <= 1
    wave = torch.from_numpy(stored[f"wave {samples}"][:, :samples])
    assert_close(codec.decode(replace(tokens, codes=theirs)).samples, wave, 1e-5)


def test_the_first_codes_alone_decode_as_in_the_program(
    codec: Codec, stored: dict[str, np.ndarray]
):
    codes = stored[f"codes {golden.LENGTHS[-1]}"].astype(np.int64)[:2]
    assert_close(codec.decode(codes).samples, torch.from_numpy(stored["prefix"]), 1e-5)


def test_a_stream_needs_no_more_memory_than_its_windows(codec: Codec):
    """States have the same size after a hundred frames and after a thousand."""

    def bytes_of(state: Any) -> int:
        if isinstance(state, tuple):
            return sum(map(bytes_of, state))
        return state.nbytes if isinstance(state, Tensor) else 0

    sizes = []
    for frames in (100, 1000):
        wave, way = golden.noise(frames * FRAME), codec.start_latent(1)
        for piece in wave.split(10 * FRAME, 2):
            _, way = codec.step_latent(piece, way)
        sizes.append(bytes_of(way))
    assert sizes[0] == sizes[1] > 0


def test_a_stream_equals_the_whole(codec: Codec):
    audio = audio_of(100 * FRAME + 33)
    tokens, stream = codec.encode(audio), Stream(codec)
    pieces = [stream.encode(piece) for piece in audio.samples.split(FRAME, 1)]
    live = torch.cat([*pieces, stream.finish_encode()], 1)
    assert near_ties(codec, audio, tokens.codes, live.numpy()) <= 1
    codes = torch.from_numpy(tokens.codes.copy())
    heard = [stream.decode(piece) for piece in codes.split(1, 1)]
    wave = torch.cat([*heard, stream.finish_decode()], 1)[:, : len(audio)]
    assert_close(wave, codec.decode(tokens).samples, 1e-5)


def test_names_of_its_repository_are_read_too(
    state: dict[str, Tensor], stored: dict[str, np.ndarray], codec: Codec, tmp_path: Path
):
    theirs = {
        re.sub(r"attn\.(in|out)_proj\.", r"attn.\1_projs.0.", name): x for name, x in state.items()
    }
    other = load(folder_of(theirs, str(stored["config"]), tmp_path))
    assert other.fingerprint == codec.fingerprint


def test_options_are_read_or_refused(folder: Path, tmp_path: Path):
    done = audiotok("convert", folder, tmp_path / "ours.safetensors", "--json")
    assert done.code == 0, done.err
    config = done.json["config"]
    assert config["seconds"] == 0.1
    assert config["encoder"] == [[20, 128, 2, 64], [2, 128, 2, 48]]
    assert config["decoder"] == [[2, 128, 2, 128], [20, 64, 2, 20]]
    options = json.loads((folder / "config.json").read_text("utf-8"))
    path = tmp_path / "config.json"
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    transformer = options["encoder_kwargs"][1]
    fewer = [options["encoder_kwargs"][0], {**transformer, "num_heads": 1}]
    timed = [options["encoder_kwargs"][0], {**transformer, "context_duration": 3}]
    books = {**options["quantizer_kwargs"], "quantizer_type": "rvq"}
    for change, words in (
        ({"loudness": -23}, r"not known here: loudness$"),
        ({"number_channels": 2}, r"number_channels=2, and the network here 1$"),
        ({"quantizer_kwargs": books}, r"='rvq', and here it is 'rlfq' or 'random_prefix_rlfq'$"),
        ({"encoder_kwargs": timed}, r"encoder_kwargs of .* not known here: context_duration$"),
        (
            {"encoder_kwargs": [*fewer, *options["encoder_kwargs"][2:]]},
            r"encoder_kwargs of config.json has heads \[1, 2\], and the weights \[2, 2\]$",
        ),
    ):
        path.write_text(json.dumps({**options, **change}), "utf-8")
        with pytest.raises(CheckpointError, match=words):
            load(tmp_path)


@pytest.mark.slow
def test_published_names_and_shapes():
    """Those of the program's default, whose decoder has a stage more than the published one."""
    shapes = table("moss_audio_tokenizer_vllm_omni")
    with torch.device("meta"):
        theirs = {}
        for name, shape in shapes.items():
            stem, _, part = name.partition(".original")
            if part != "0":  # lengths fold into directions
                theirs[stem.replace("parametrizations.", "")] = torch.ones(shape)
        adapter = Moss.state_dict_adapters[0]
        weights, origin = adapter.translate(theirs)
        config = Config(**adapter.sizes(weights, {}))
        default = Config()
        more = (*default.decoder[:3], (*WIDE, 768), default.decoder[3])
        assert config == replace(default, decoder=more)
        codec = find("codecs", "moss")(config)
        check(weights, codec.state_dict(), origin)
    assert codec.parameters_trained == 1_859_851_264
    assert codec.decoded_rate == 2 * codec.sample_rate
