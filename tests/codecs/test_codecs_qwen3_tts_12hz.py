"""Qwen3-TTS-Tokenizer-12Hz is what the package qwen-tts computes, at any length and as a stream."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commandline import audiotok
from contracts import assert_close, near_ties
from golden import qwen3_tts_12hz as golden
from random_weights import folder_of
from sizes import SIZES
from torch import Tensor

from audiotok.audio.audio import Audio
from audiotok.codecs.checkpoint import CheckpointError, load, save
from audiotok.codecs.models.base import Codec
from audiotok.codecs.models.qwen3_tts_12hz import Config, Qwen3Tts12hz
from audiotok.runtime.stream import Stream

SMALL = replace(SIZES["qwen3_tts_12hz"][0], window=12)


@pytest.fixture(scope="module")
def state(stored: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """The package's weights."""
    weights = golden.weights(json.loads(str(stored["shapes"])))
    return weights | {k: torch.from_numpy(v) for k, v in stored.items() if k.startswith("encoder")}


@pytest.fixture(scope="module")
def folder(
    state: dict[str, Tensor],
    stored: dict[str, np.ndarray],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    return folder_of(state, str(stored["options"]), tmp_path_factory.mktemp("folder"))


@pytest.fixture(scope="module")
def codec(folder: Path) -> Codec:
    return load(folder)


def audio_of(samples: int) -> Audio:
    return Audio(golden.noise(samples)[0], 24000)


def test_the_config_is_read(codec: Codec, folder: Path):
    """Also windows and heads, of which the weights tell nothing."""
    assert codec.config == SMALL
    assert codec.name == "qwen3_tts_12hz"


@pytest.mark.parametrize("samples", golden.LENGTHS)
def test_codes_and_waves_are_those_of_the_package(
    codec: Codec, stored: dict[str, np.ndarray], samples: int
):
    """Past the windows too, and where the last frame is not whole."""
    audio, theirs = audio_of(samples), stored[f"codes {samples}"].astype(np.int64)
    tokens = codec.encode(audio)
    assert tokens.codes.shape == theirs.shape
    assert near_ties(codec, audio, tokens.codes, theirs) <= tokens.frames / 1000
    wave = torch.from_numpy(stored[f"wave {samples}"][:, :samples])
    assert_close(codec.decode(replace(tokens, codes=theirs)).samples, wave, 1e-5)


def test_without_its_window_the_encoder_gives_other_codes(
    codec: Codec, stored: dict[str, np.ndarray]
):
    """As the package does without Flash Attention: from the first frame past the window."""
    heeding = codec.encode(audio_of(golden.LENGTHS[-1])).codes
    differ = (heeding != stored["unheeding"]).any(0)
    frames = SMALL.window // SMALL.halving
    assert not differ[:frames].any()
    assert differ[frames:].mean() > 0.1


def test_its_own_entries_decode(codec: Codec, state: dict[str, Tensor]):
    """The decoder's are other numbers than those that the encoder searches."""
    part: Any = codec.quantizer
    books = [*part.semantic.rvq.decoded, *part.acoustic.rvq.decoded]
    prefix = "decoder.quantizer.rvq_rest.vq.layers.1._codebook."
    theirs = state[f"{prefix}embedding_sum"] / state[f"{prefix}cluster_usage"][:, None]
    torch.testing.assert_close(books[2].data, theirs)
    assert not torch.allclose(books[2], part.acoustic.rvq.stages[1].entries, atol=0.1)
    assert len(books) == codec.codebooks == 4  # of the encoder's 6


def test_a_stream_equals_the_whole_long_past_the_windows(codec: Codec):
    frame = codec.frame_size
    audio = audio_of(300 * frame + 33)
    tokens, stream = codec.encode(audio), Stream(codec)
    pieces = [stream.encode(piece) for piece in audio.samples.split(frame, 1)]
    live = torch.cat([*pieces, stream.finish_encode()], 1)
    assert near_ties(codec, audio, tokens.codes, live.numpy()) <= 1
    given = torch.from_numpy(tokens.codes.copy())
    heard = [stream.decode(codes) for codes in given.split(1, 1)]
    wave = torch.cat([*heard, stream.finish_decode()], 1)[:, : len(audio)]
    assert_close(wave, codec.decode(tokens).samples, 1e-5)


def test_convert_prints_the_config_that_it_read(folder: Path, tmp_path: Path):
    out = tmp_path / "ours.safetensors"
    done = audiotok("convert", folder, out, "--json")
    assert done.code == 0, done.err
    told = done.json["config"]
    assert (told["window"], told["decoder_window"], told["decoder_key_heads"]) == (12, 5, 2)
    assert load(out).fingerprint == load(folder).fingerprint


@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        ("", {"gain": 2}, r"config\.json has options that are not known here: gain$"),
        ("decoder_config", {"qk_norm": 1}, r"decoder_config .* not known here: qk_norm$"),
        ("decoder_config", {"rope_theta": 5}, "has rope_theta=5, and the network here 10000$"),
        ("encoder_config", {"norm_eps": 0.1}, r"has norm_eps=0\.1, and the network here 1e-05$"),
        ("", {"encoder_valid_num_quantizers": 3}, "has codebooks 3, and the weights 4$"),
        ("decoder_config", {"num_attention_heads": 2}, "decoder_heads 2, and the weights 4$"),
    ],
)
def test_options_are_used_or_refused(
    state: dict[str, Tensor],
    stored: dict[str, np.ndarray],
    tmp_path: Path,
    part: str,
    change: dict[str, Any],
    words: str,
):
    options = json.loads(str(stored["options"]))
    (options[part] if part else options).update(change)
    with pytest.raises(CheckpointError, match=words):
        load(folder_of(state, json.dumps(options), tmp_path))


def test_parts_that_are_missing_are_named(
    state: dict[str, Tensor], stored: dict[str, np.ndarray], tmp_path: Path
):
    few = dict(state)
    del few["decoder.upsample.1.1.gamma"], few["decoder.decoder.2.block.3.act2.beta"]
    with pytest.raises(CheckpointError, match=r"missing: decoder\.layers\.2\.layers\.3\.scale, d"):
        load(folder_of(few, str(stored["options"]), tmp_path))
    more = state | {"decoder.decoder.9.block.0.gain": torch.ones(1)}
    with pytest.raises(CheckpointError, match=r"unexpected: decoder\.decoder\.9\.block\.0\.gain"):
        load(folder_of(more, str(stored["options"]), tmp_path))


def test_training_from_nothing_teaches_both_kinds_of_entries():
    """The decoder's begin as the encoder's, once those are drawn from the first batch."""
    torch.manual_seed(0)
    codec = Qwen3Tts12hz(SMALL).train()
    part: Any = codec.quantizer
    book, own = part.acoustic.rvq.stages[0], part.acoustic.rvq.decoded[0]
    wave = golden.noise(40 * codec.frame_size)
    codec(wave)
    assert torch.equal(book.entries, own)
    output, quantized = codec(wave)
    (output.square().mean() + quantized.losses["commitment"]).backward()
    assert own.grad is not None
    assert own.grad.any()
    assert not torch.equal(book.entries, own)  # moved by averages, and the other by a gradient


# -- beside the package, where it is installed -----------------------------------------------------


@pytest.fixture
def package() -> Any:
    if not golden.available():
        pytest.skip("qwen-tts 0.1.1 is not installed, or not with transformers 4.57")
    return golden


@pytest.mark.slow
@torch.no_grad()
def test_full_size(package: Any, tmp_path: Path):
    theirs, _ = golden.loaded(golden.FULL)
    golden.quieten(theirs)
    options = theirs.config.to_json_string()
    codec = load(folder_of(theirs.state_dict(), options, tmp_path))
    assert codec.name == "qwen3_tts_12hz"
    assert codec.config == Config()
    assert sum(p.numel() for p in theirs.parameters()) == codec.parameters_trained
    for samples in (160 * 1920 + 77, 5):
        audio = audio_of(samples)
        with golden.heeding_its_window():
            codes = golden.encode(theirs, golden.noise(samples)).numpy()
        tokens = codec.encode(audio)
        assert near_ties(codec, audio, tokens.codes, codes) <= tokens.frames / 100
        wave = golden.decode(theirs, torch.from_numpy(codes))[:, :samples]
        assert wave.abs().max() < 1
        assert_close(codec.decode(replace(tokens, codes=codes)).samples, wave, 1e-4)
    save(codec, tmp_path / "ours.safetensors", dtype=torch.float32)
    assert load(tmp_path / "ours.safetensors").fingerprint == codec.fingerprint
