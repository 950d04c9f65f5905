"""Voxtral's codec is what its network in vllm-omni computes, at any length and as a stream."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from commandline import audiotok
from contracts import assert_close, latents
from golden import voxtral as golden
from random_weights import folder_of
from safetensors.torch import save_file
from torch import Tensor

from audiotok.audio.audio import Audio
from audiotok.codecs.checkpoint import CheckpointError, load, save
from audiotok.codecs.models.base import Codec
from audiotok.codecs.models.voxtral import Config, Voxtral, _sizes
from audiotok.runtime.stream import Stream
from audiotok.tokens.tokenizer import NoEncoderError

FRAME = golden.FRAME
OPTIONS = {"sampling_rate": 24000, "head_dim": 8}


@pytest.fixture(scope="module")
def state(stored: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """The program's weights."""
    shapes, gains = (json.loads(str(stored[name])) for name in ("shapes", "gains"))
    return golden.state_of(shapes, gains, torch.from_numpy(stored["entries"]))


@pytest.fixture(scope="module")
def folder(
    stored: dict[str, np.ndarray],
    state: dict[str, Tensor],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    return folder_of(state, str(stored["args"]), tmp_path_factory.mktemp("folder"))


@pytest.fixture(scope="module")
def codec(folder: Path) -> Codec:
    return load(folder)


def audio_of(samples: int) -> Audio:
    return Audio(golden.noise(samples)[0], 24000)


def near_edges(codec: Codec, audio: Audio, one: np.ndarray, other: np.ndarray) -> int:
    """Return how many acoustic codes differ, asserting that each is at the edge of a level."""
    assert (one[0] == other[0]).all()
    steps = 10 * latents(codec, audio)[codec.config.semantic :].tanh()
    differ = np.argwhere(one[1:] != other[1:])
    for k, f in differ:
        assert abs(float(steps[k, f] - steps[k, f].floor()) - 0.5) < 1e-3
    return len(differ)


@pytest.mark.parametrize("samples", golden.LENGTHS)
def test_codes_and_waves_are_those_of_the_program(
    codec: Codec, stored: dict[str, np.ndarray], samples: int
):
    audio, theirs = audio_of(samples), stored[f"codes {samples}"].astype(np.int64)
    tokens = codec.encode(audio)
    assert tokens.codes.shape == theirs.shape
    assert near_edges(codec, audio, tokens.codes, theirs) <= 1
    wave = torch.from_numpy(stored[f"wave {samples}"][:, :samples])
    assert_close(codec.decode(replace(tokens, codes=theirs)).samples, wave, 1e-5)


def test_sizes(codec: Codec):
    assert isinstance(codec.config, Config)
    assert codec.sizes == (64, *(21,) * 6)
    assert codec.config.decoder_blocks == (1, 1, 2, 1)
    assert (codec.config.heads, codec.config.key_heads) == (6, 3)


def test_a_frame_sees_the_windows_before_it(codec: Codec):
    """16 steps of a patch, 8 of two, 4 of four and 2 of a frame, at each transformer."""
    seen = sum(n * w * f for n, w, f in zip((1, 2, 1, 1), (16, 8, 4, 2), (1, 2, 4, 8), strict=True))
    convolutions = 4 + 2 + 2 * 2 + 2 * 4 + 2 * 8
    assert codec.receptive_field == (10 * (seen + convolutions), 0)


def test_a_stream_equals_the_whole(codec: Codec):
    audio = audio_of(100 * FRAME + 33)
    tokens, stream = codec.encode(audio), Stream(codec)
    pieces = [stream.encode(piece) for piece in audio.samples.split(FRAME, 1)]
    live = torch.cat([*pieces, stream.finish_encode()], 1)
    assert near_edges(codec, audio, tokens.codes, live.numpy()) <= 1
    codes = torch.from_numpy(tokens.codes.copy())
    heard = [stream.decode(piece) for piece in codes.split(1, 1)]
    wave = torch.cat([*heard, stream.finish_decode()], 1)[:, : len(audio)]
    assert_close(wave, codec.decode(tokens).samples, 1e-5)


def test_the_published_file_only_decodes(
    state: dict[str, Tensor], stored: dict[str, np.ndarray], codec: Codec, tmp_path: Path
):
    """It holds a language model too, and no encoder."""
    theirs = {
        f"audio_tokenizer.{name}": x.contiguous().clone()
        for name, x in state.items()
        if not name.startswith(("input_proj.", "encoder_blocks."))
    }
    theirs["audio_tokenizer.audio_token_embedding.embeddings.weight"] = torch.ones(8, 4)
    theirs["layers.0.attention.wq.weight"] = torch.ones(4, 4)
    folder_of(theirs, str(stored["args"]), tmp_path)
    other = load(tmp_path)
    codes = stored[f"codes {golden.LENGTHS[-1]}"].astype(np.int64)
    assert other.decode(codes).samples.equal(codec.decode(codes).samples)
    with pytest.raises(NoEncoderError, match=r"only decode: its encoder is not published$"):
        other.encode(audio_of(FRAME))
    assert codec.encodes
    assert not other.encodes
    with pytest.raises(NoEncoderError, match=r"only decode: its encoder is not published$"):
        Stream(other).encode(audio_of(FRAME).samples)
    save(other, tmp_path / "ours.safetensors", dtype=torch.float32)
    again = load(tmp_path / "ours.safetensors")
    assert isinstance(again, Voxtral)
    assert not again.encodes
    assert again.decode(codes).samples.equal(codec.decode(codes).samples)


def test_a_decoder_alone_says_how_long_a_frame_is(tmp_path: Path):
    """Its strides are those of the decoder, and not the published encoder's."""
    torch.manual_seed(0)
    small = Config(
        patch=10,
        width=32,
        hidden=24,
        head=8,
        heads=4,
        key_heads=2,
        strides=(2,),
        decoder_blocks=(1, 1),
        decoder_kernels=(3, 4),
        decoder_strides=(1, 2),
        semantic=12,
        size=64,
        acoustic=4,
        encodes=False,
    )
    codec = Voxtral(small).eval()
    assert Voxtral(Config(**_sizes(codec.state_dict(), {"head_dim": 8}))).frame_size == 20
    save(codec, tmp_path / "alone.safetensors", dtype=torch.float32)
    assert load(tmp_path / "alone.safetensors").frame_size == 20


def test_options_are_read_or_refused(folder: Path, state: dict[str, Tensor], tmp_path: Path):
    done = audiotok("convert", folder, tmp_path / "ours.safetensors", "--json")
    assert done.code == 0, done.err
    assert (done.json["config"]["window"], done.json["config"]["head"]) == (16, 8)
    for change, words in (
        ({"speed": 2}, r"not known here: speed$"),
        ({"acoustic_codebook_size": 11}, r"acoustic_codebook_size=11, and the network here 21$"),
        ({"norm_eps": 1e-5}, r"norm_eps=1e-05, and the network here 0.01$"),
        ({"n_heads": 3}, r"has heads 3, and the weights 6$"),
    ):
        folder_of(state, json.dumps(OPTIONS | change), tmp_path)
        with pytest.raises(CheckpointError, match=words):
            load(tmp_path)
    state = state | {"encoder_blocks.0.layers.0.attention.wz.weight": torch.ones(2)}
    folder_of(state, json.dumps(OPTIONS), tmp_path)
    with pytest.raises(CheckpointError, match=r"unexpected: encoder_blocks\.0.*\.wz\.weight$"):
        load(tmp_path)


@pytest.mark.slow
def test_full_size(tmp_path: Path):
    if not golden.available():
        pytest.skip("vllm-omni 0.30.0 is not here")
    theirs, _, _ = golden.loaded(golden.FULL)
    state = {name: x.contiguous() for name, x in theirs.state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    codec = load(tmp_path / "model.safetensors")
    assert codec.config == Voxtral.presets["voxtral"]
    assert sum(p.numel() for p in theirs.parameters()) == codec.parameters_trained
    for samples in (60 * 1920, 7 * 1920 + 777):
        audio = Audio(golden.noise(samples)[0], 24000)
        codes = golden.encode(theirs, golden.noise(samples)).numpy()
        tokens = codec.encode(audio)
        assert near_edges(codec, audio, tokens.codes, codes) <= codes.size / 100
        wave = golden.decode(theirs, torch.from_numpy(codes))[:, :samples]
        assert_close(codec.decode(replace(tokens, codes=codes)).samples, wave, 1e-4)
