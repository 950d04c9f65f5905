"""X-codec 2 and NeuCodec are what transformers computes, at any length, of 16 and of 24 kHz."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from commandline import audiotok
from contracts import assert_close, latents, noise
from random_weights import folder_of, random_weights
from sizes import SIZES, made
from torch import Tensor

from audiotok.audio import _torchaudio
from audiotok.audio.audio import Audio
from audiotok.codecs.checkpoint import CheckpointError, load, save
from audiotok.codecs.models import xcodec2
from audiotok.codecs.models.base import Codec
from audiotok.codecs.models.xcodec2 import Xcodec2
from audiotok.data.features import w2v_bert
from audiotok.nn.layers.base import Layer
from audiotok.nn.quantizers.fsq import Fsq
from audiotok.runtime import windows
from audiotok.runtime.stream import Stream
from audiotok.training.components import new_codec
from audiotok.training.recipe import Data, Recipe

FRAME = 320
W2V_BERT = {
    "model_type": "wav2vec2-bert",
    "hidden_size": 32,
    "output_hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "conv_depthwise_kernel_size": 7,
    "left_max_position_embeddings": 20,
    "right_max_position_embeddings": 5,
}
OPTIONS: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "encoder_hidden_size": 4,
    "quantization_dim": 96,
    "semantic_model_config": W2V_BERT,
}
SMALL = xcodec2.Config(
    encoder=4,
    width=64,
    semantic=32,
    semantic_blocks=2,
    semantic_heads=2,
    semantic_hidden=48,
    semantic_kernel=7,
    semantic_before=20,
    semantic_after=5,
    blocks=2,
    heads=2,
    hidden=96,
)
CONFIGS = {"Xcodec2": SMALL, "NeuCodec": replace(SMALL, decoded_rate=24000, centred=False)}


class Pair(NamedTuple):
    """Transformers' model and ours of its folder."""

    extract: Any
    theirs: Any
    folder: Path
    ours: Codec


def pair_of(kind: str, folder: Path, options: dict[str, Any]) -> Pair:
    _torchaudio.load()
    hf = pytest.importorskip("transformers")
    config = getattr(hf, f"{kind}Config")(**options)
    theirs = getattr(hf, f"{kind}Model")(config).eval().requires_grad_(False)
    state = random_weights({name: value.shape for name, value in theirs.state_dict().items()})
    for name, value in state.items():
        if name.endswith(("alpha", "beta")):
            value.mul_(3)
    theirs.load_state_dict(state)
    folder_of(theirs.state_dict(), json.dumps(config.to_dict()), folder)
    return Pair(getattr(hf, f"{kind}FeatureExtractor")(), theirs, folder, load(folder))


@pytest.fixture(scope="module", params=CONFIGS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return pair_of(request.param, tmp_path_factory.mktemp(request.param), OPTIONS)


@pytest.fixture(scope="module")
def neucodec() -> Codec:
    return made("xcodec2", SIZES["xcodec2"][1])


@torch.no_grad()
def encoded(pair: Pair, audio: Audio) -> Tensor:
    """Their codes `[1 f]`."""
    wave = audio.samples[0].numpy()
    given = pair.extract(audio=wave, sampling_rate=16000, return_tensors="pt")
    return pair.theirs.encode(**given).audio_codes[0].long()


def near_edges(codec: Codec, audio: Audio, one: Tensor, other: Tensor) -> int:
    """Return how many codes differ, asserting that a feature of each is at the edge of a cell."""
    grid: Any = codec.quantizer
    steps = grid.bound(grid.narrow(latents(codec, audio)[None]))[0] * grid.per_unit
    differ = (one != other)[0].nonzero().flatten()
    for f in differ:
        assert ((steps[f] - steps[f].floor() - 0.5).abs() < 1e-3).any()
    return len(differ)


@pytest.mark.parametrize(
    "samples", [FRAME, FRAME + 1, 20 * FRAME, 20 * FRAME + 11, 200 * FRAME + 319]
)
def test_codes_and_waves_are_those_of_transformers(pair: Pair, samples: int):
    """Also where attention is computed in parts, and past the pieces of the convolutions."""
    audio, codec = noise(pair.ours, samples), pair.ours
    theirs, tokens = encoded(pair, audio), codec.encode(audio)
    codes = torch.from_numpy(tokens.codes.copy())
    whole = samples // FRAME
    further = 0 if codec.decoded_rate == 24000 else 1
    assert (codes.shape[1], theirs.shape[1]) == (-(-samples // FRAME), whole + further)
    both = min(codes.shape[1], theirs.shape[1])
    assert near_edges(codec, audio, codes[:, :both], theirs[:, :both]) <= both / 100
    assert samples < 9999 or len(codes.unique()) > 20
    with torch.no_grad():
        wave = pair.theirs.decode(codes[None]).audio_values[0]
    decoded = codec.decode(tokens)
    assert len(decoded) == -(-samples * codec.decoded_rate // 16000)
    assert_close(decoded.samples, wave[:, : len(decoded)], 1e-5)


def test_the_configuration_is_read_and_printed(pair: Pair, tmp_path: Path):
    """Also heads and distances, of which the weights tell nothing."""
    kind = type(pair.theirs).__name__.removesuffix("Model")
    assert pair.ours.config == CONFIGS[kind]
    done = audiotok("convert", pair.folder, tmp_path / "ours.safetensors", "--json")
    assert done.code == 0, done.err
    told = done.json["config"]
    assert (told["heads"], told["semantic_before"], told["centred"]) == (2, 20, kind == "Xcodec2")
    again = load(tmp_path / "ours.safetensors")
    assert (again.fingerprint, again.config) == (pair.ours.fingerprint, pair.ours.config)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"smear": 2}, r"config\.json has options that are not known here: smear$"),
        ({"hidden_act": "gelu"}, "has hidden_act='gelu', and the network here 'silu'$"),
        ({"model_type": "xcodec3"}, "has model_type 'xcodec3', none of xcodec2, neucodec$"),
        ({"num_key_value_heads": 1}, "has 1 heads of keys, and the network here 2$"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "has .*'yarn'.*, which may scale attention$"),
        ({"downsampling_ratios": [2, 2, 4, 5, 4]}, r"strides \(2, 2, 4, 5, 4\), and the weights"),
        (
            {"semantic_model_config": W2V_BERT | {"blur": 1}},
            r"semantic_model_config of config\.json has options .* not known here: blur$",
        ),
        (
            {"semantic_model_config": W2V_BERT | {"position_embeddings_type": "rotary"}},
            "has position_embeddings_type='rotary', and the network here 'relative_key'$",
        ),
    ],
)
def test_options_that_are_not_computed_are_refused(
    pair: Pair, tmp_path: Path, change: dict[str, Any], words: str
):
    options = pair.theirs.config.to_dict() | change
    folder_of(pair.theirs.state_dict(), json.dumps(options), tmp_path)
    with pytest.raises(CheckpointError, match=words):
        load(tmp_path)


def test_weights_that_no_layer_takes_are_refused(pair: Pair, tmp_path: Path):
    state = pair.theirs.state_dict()
    state["semantic_encoder.adapter.layers.0.weight"] = torch.ones(2)
    folder_of(state, json.dumps(pair.theirs.config.to_dict()), tmp_path)
    with pytest.raises(CheckpointError, match=r"unexpected: semantic_encoder\.adapter\.layers\.0"):
        load(tmp_path)


def test_without_a_configuration_the_rates_tell_which(pair: Pair, tmp_path: Path):
    torch.save(pair.theirs.state_dict(), tmp_path / "model.bin")
    config: Any = load(tmp_path / "model.bin").config
    assert (config.decoded_rate, config.centred) == (
        pair.ours.decoded_rate,
        pair.ours.decoded_rate == 16000,
    )


def test_every_code_is_reached_under_its_official_number():
    """The first feature is the least significant digit, of base 4, and the lowest level is 0."""
    grid = Fsq(8, levels=(4,) * 8, rule="original", bounds=2)
    middles = torch.tensor([-10.0, -0.473, 0.0, 10.0])
    digits = torch.tensor(list(itertools.product(range(4), repeat=8)))
    codes = grid.search(middles[digits][None])[0]
    assert torch.equal(codes, (digits * 4 ** torch.arange(8)).sum(1))
    assert len(codes.unique()) == 65_536
    values = torch.tensor([-1.0, -0.5, 0.0, 0.5])
    assert torch.equal(grid.look_up(codes), values[digits])


def test_pieces_of_the_convolutions_make_the_whole(neucodec: Codec):
    layer: Any = neucodec.encoder
    acoustic: Layer = layer.acoustic
    for samples in (1, 50, 65):
        wave = noise(neucodec, samples * FRAME).samples[None]
        pieces = acoustic.finish(wave, acoustic.start(1))
        assert_close(pieces, acoustic(wave), 1e-5)


def test_parts_of_the_attention_make_the_whole(monkeypatch: pytest.MonkeyPatch):
    teacher = w2v_bert.W2vBert(width=32, layers=2, heads=2, hidden=16, kernel=3, before=9).eval()
    wave = noise(made("xcodec2", SIZES["xcodec2"][0]), 30_000).samples
    whole = teacher.hidden(wave)
    monkeypatch.setattr(w2v_bert, "QUERIES", 17)
    assert_close(teacher.hidden(wave), whole, 1e-5)


def test_frames_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"strides=\(2, 4\): a frame of w2v-BERT has 320 samples"):
        xcodec2.Config(strides=(2, 4))
    with pytest.raises(ValueError, match="decoded_rate=22050: no even number of samples"):
        xcodec2.Config(decoded_rate=22050)


# -- two rates -----------------------------------------------------------------------------------


def test_audio_decodes_to_its_own_rate(neucodec: Codec):
    tokens = neucodec.encode(noise(neucodec, 5001))
    assert (tokens.sample_rate, tokens.frame_size, tokens.samples) == (16000, 320, 5001)
    decoded = neucodec.decode(tokens)
    assert (decoded.rate, len(decoded)) == (24000, 7502)  # half a sample counts as one
    codes = torch.from_numpy(tokens.codes.copy())
    assert len(neucodec.decode(codes)) == tokens.frames * 480
    assert torch.equal(neucodec.decode(codes, samples=5001).samples, decoded.samples)
    assert neucodec.facts().endswith("no stream, decodes to 24000 Hz")
    original = neucodec.decode(tokens, original_rate=True)
    assert (original.rate, len(original)) == (16000, 5001)
    high = neucodec.encode(Audio(0.1 * torch.randn(1, 9001), 24000))
    assert len(neucodec.decode(high, original_rate=True)) == 9001
    assert neucodec.decode(high, original_rate=True).rate == 24000


@pytest.mark.parametrize("original", [False, True])
def test_files_decode_to_that_rate(neucodec: Codec, tmp_path: Path, original: bool):
    save(neucodec, tmp_path / "c.safetensors", dtype=torch.float32)
    noise(neucodec, 8001).save(tmp_path / "a.wav")
    given = ["--codec", tmp_path / "c.safetensors"]
    assert not audiotok("encode", tmp_path / "a.wav", *given, "-o", tmp_path / "a.tok").code
    options = ["--rate", "original"] if original else []
    done = audiotok("decode", tmp_path / "a.tok", *given, "-o", tmp_path / "b.wav", *options)
    assert done.code == 0, done.err
    decoded = Audio.load(tmp_path / "b.wav")
    assert (decoded.rate, len(decoded)) == ((16000, 8001) if original else (24000, 12_002))


def test_windows_and_streams_know_the_rate(neucodec: Codec):
    with pytest.raises(ValueError, match=r"^codec 'xcodec2' hears a recording"):
        Stream(neucodec)
    audio = noise(neucodec, 60 * FRAME + 7)
    stream = Stream(neucodec, context=0.2)
    heard = [stream.decode(stream.encode(piece)) for piece in audio.samples.split(999, 1)]
    codes, rest = stream.finish()
    assert codes.shape[1] <= 61
    assert sum(x.shape[1] for x in heard) + rest.shape[1] == neucodec.decoded_samples(len(audio))
    lost = windows.loss(neucodec, audio, 10.0)  # one window holds it all
    assert (lost.codes, lost.snr) == (0, np.inf)


def test_what_takes_one_rate_refuses_it(neucodec: Codec):
    words = "^xcodec2 encodes 16000 Hz and decodes to 24000: this takes a codec of one rate$"
    with pytest.raises(ValueError, match=words):
        neucodec.check_one_rate()
    recipe = Recipe(codec="xcodec2", data=Data("none"), config=vars(SIZES["xcodec2"][1]))
    with pytest.raises(ValueError, match=words):
        new_codec(recipe)
    made("xcodec2", SIZES["xcodec2"][0]).check_one_rate()


def test_published_presets():
    assert Xcodec2.presets["neucodec"] == replace(
        Xcodec2.presets["xcodec2"], decoded_rate=24000, centred=False
    )
