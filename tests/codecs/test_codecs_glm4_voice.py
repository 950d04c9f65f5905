"""GLM-4-Voice's tokenizer: codes of its own program, blocks that no later block changes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contracts import noise
from hypothesis import given, settings
from hypothesis import strategies as st
from random_weights import random_weights
from safetensors.torch import save_file
from sizes import made, ready
from test_codecs_oracles import imported
from torch import Tensor

from audiotok._platform.errors import InputError
from audiotok.audio.audio import Audio
from audiotok.codecs.checkpoint import CheckpointError, load
from audiotok.codecs.models.glm4_voice import Config, Glm4Voice
from audiotok.nn.pretrained.state_dicts import recognise
from audiotok.runtime.stream import Stream

ROOT = Path(__file__).parents[2]
SMALL = Config(width=128, heads=2, layers=2, size=64)
TINY = Config(bands=80, width=16, heads=2, layers=2, size=64, block=8, segment=20)


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(ROOT / "tests/golden/glm4_voice_codes.npz") as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def weights(golden: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """Return the weights that the stored codes are of, by the program's names."""
    weights = random_weights(json.loads(str(golden["shapes"])), gain=3.0)
    weights["codebook.weight"] = torch.from_numpy(golden["entries"])
    weights["embed_positions.weight"] = Glm4Voice(SMALL).state_dict()["encoder.positions"]
    return weights


@pytest.fixture
def folder(tmp_path: Path, golden: dict[str, np.ndarray], weights: dict[str, Tensor]) -> Path:
    """Return a folder as published, with the parts after the quantizer and the decoder."""
    state = {f"model.encoder.{key}": value for key, value in weights.items()}
    extra = {
        "model.encoder.layer_norm.weight": torch.ones(128),
        "model.encoder.layers.16.fc1.bias": torch.ones(512),
        "model.decoder.layers.0.fc1.bias": torch.ones(512),
        "proj_out.weight": torch.ones(32, 128),
    }
    save_file(state | extra, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(str(golden["config"]))
    return tmp_path


def recordings() -> dict[str, Audio]:
    reading = Audio.load(ROOT / "egs/data/reading.flac").resample(16000)
    long = reading.samples.repeat(1, 4)
    return {"clip": reading[16000:48160], "long": Audio(long, 16000)}


def test_codes_are_those_of_the_program(golden: dict[str, np.ndarray], folder: Path):
    """Stored by golden/glm4_voice_codes.py: two seconds of reading, and four times all of it."""
    codec: Any = load(folder)
    assert (codec.name, codec.config) == ("glm4_voice", SMALL)
    waiting = ready(Glm4Voice(replace(SMALL, wait=True)))
    waiting.load_state_dict(codec.state_dict())
    for key, audio in recordings().items():
        assert np.array_equal(waiting.encode(audio).codes[0], golden[key])
        # Before the loudest bin of a segment, near silence may be coded otherwise.
        assert (codec.encode(audio).codes[0] == golden[key]).mean() > 0.95


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"pooling_type": "max"}, "pooling_type is max, where only avg is known"),
        ({"quantize_position": 1}, "quantize_position is 1, where only 2 is known"),
        ({"encoder_causal_convolution": False}, "encoder_causal_convolution is False"),
        ({"quantize_causal_block_size": 6}, r"block=6: a multiple of the pool of 4 frames"),
    ],
)
def test_other_configurations_are_refused(folder: Path, change: dict[str, Any], says: str):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(CheckpointError, match=says):
        load(folder)


def test_segments_of_part_of_a_frame_are_refused():
    with pytest.raises(InputError, match=r"^segment=18: a multiple of the pool of 4 frames$"):
        Glm4Voice(replace(TINY, segment=18))


@pytest.mark.parametrize("wait", [False, True])
@settings(max_examples=15, deadline=None)
@given(samples=st.integers(1, 40_000), sizes=st.lists(st.integers(0, 9000), max_size=12))
def test_a_stream_gives_the_codes_of_the_whole_to_the_bit(
    wait: bool, samples: int, sizes: list[int]
):
    codec = CODECS[wait]
    audio = noise(codec, samples)
    stream, rest, latents = Stream(codec), audio.samples, []
    codes = []
    for size in sizes:
        codes.append(stream.encode(rest[:, :size]))
        rest = rest[:, size:]
    codes += [stream.encode(rest), stream.finish_encode()]
    assert np.array_equal(torch.cat(codes, 1).numpy(), codec.encode(audio).codes)
    state, rest = codec.start_latent(1), audio.samples[None]
    for size in sizes:
        y, state = codec.step_latent(rest[:, :, :size], state)
        latents.append(y)
        rest = rest[:, :, size:]
    latents.append(codec.finish_latent(rest, state))
    assert torch.equal(torch.cat(latents, 2), codec.finish_latent(audio.samples[None], None))


CODECS = {wait: made("glm4_voice", replace(TINY, wait=wait)) for wait in (False, True)}


@torch.no_grad()
def test_a_block_depends_on_no_later_sample():
    codec = CODECS[False]
    wave = noise(codec, 3 * 20 * 320).samples[None]
    latent = codec.latents(wave)
    for end in (8, 16, 20, 28, 36, 40):  # frames of 20 ms: blocks of 8, segments of 20
        other = wave.clone()
        other[:, :, end * 320 :] = 3 * torch.randn(other[:, :, end * 320 :].shape)
        changed = codec.latents(other)
        assert torch.equal(changed[:, :, : end // 4], latent[:, :, : end // 4])
        assert not torch.equal(changed[:, :, end // 4], latent[:, :, end // 4])
        codes = (codec.quantizer.encode(x)[:, :, : end // 4] for x in (changed, latent))
        assert torch.equal(*codes)


def test_segments_are_coded_by_themselves():
    codec = CODECS[False]
    audio = noise(codec, 2 * 6400 + 1000)
    parts = [codec.encode(part).codes for part in (audio[:6400], audio[6400:12800], audio[12800:])]
    assert np.array_equal(codec.encode(audio).codes, np.concatenate(parts, 1))


def test_what_it_says_of_itself():
    sizes = replace(TINY, block=Config.block, segment=Config.segment)
    codec, waiting = (Glm4Voice(replace(sizes, wait=wait)) for wait in (False, True))
    assert (codec.frame_size, codec.frame_rate) == (1280, 12.5)
    assert codec.latency == 4
    assert codec.receptive_field == (374 * 1280, 49 * 1280 - 120)
    assert waiting.latency == 30
    assert waiting.receptive_field == (374 * 1280, 374 * 1280)


@pytest.mark.slow
@torch.no_grad()
def test_the_program_at_full_size():
    """With its repository and transformers 4.44.2 on the path (golden/glm4_voice_codes.py)."""
    names = ("speech_tokenizer.configuration_whisper", "speech_tokenizer.modeling_whisper")
    with imported(*names, "transformers") as (configuration, modeling, transformers):
        config = configuration.WhisperVQConfig(
            num_mel_bins=128,
            d_model=1280,
            encoder_attention_heads=20,
            encoder_ffn_dim=5120,
            max_source_positions=1500,
            pooling_kernel_size=4,
            pooling_type="avg",
            pooling_position=16,
            quantize_vocab_size=16384,
            quantize_position=16,
            quantize_encoder_only=True,
            quantize_causal_block_size=200,
            quantize_ema_decay=0.99,
            encoder_causal_convolution=True,
        )
        torch.manual_seed(0)
        program = modeling.WhisperVQEncoder(config).eval()
        extract = transformers.WhisperFeatureExtractor(feature_size=128)
    for parameter in program.layers.parameters():
        if parameter.dim() == 2:
            parameter.normal_(0, 2 / parameter.shape[1] ** 0.5)
    reading = recordings()["long"].samples[0]
    codec = Glm4Voice(Config(wait=True))
    adapter = recognise(codec.state_dict_adapters, program.state_dict())
    assert adapter is not None
    codec.load_state_dict(adapter.translate(dict(program.state_dict()))[0])
    ready(codec)
    latents = codec.latents(reading[None, None, 16000:176_000])[0].T
    entries = latents[torch.randint(len(latents), (16384,))]
    entries = entries + 0.1 * latents.std(0) * torch.randn(entries.shape)
    program.codebook.weight.copy_(entries)
    codec.load_state_dict(adapter.translate(dict(program.state_dict()))[0])
    options = {"padding": "longest", "pad_to_multiple_of": 1280, "return_attention_mask": True}
    for samples in (80_123, 500_000):
        theirs = []
        for part in reading[:samples].split(480_000):
            given = extract([part.numpy()], sampling_rate=16000, return_tensors="pt", **options)
            own = given.attention_mask[0, ::8].bool()
            theirs.append(program(**given).quantized_token_ids[0][own])
        codes = codec.encode(Audio(reading[None, :samples], 16000)).codes[0]
        assert np.array_equal(codes, torch.cat(theirs).numpy())
        assert len(np.unique(codes)) > len(codes) / 4
