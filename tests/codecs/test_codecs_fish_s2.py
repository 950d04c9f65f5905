"""Fish Audio's codec is what its program computes, at any length and as a stream."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from commandline import audiotok
from contracts import assert_close, near_ties
from golden import fish_s2 as golden
from torch import Tensor

from audiotok.audio.audio import Audio
from audiotok.codecs.checkpoint import CheckpointError, load
from audiotok.codecs.export.folder import export
from audiotok.codecs.models.base import Codec
from audiotok.codecs.models.fish_s2 import Config
from audiotok.runtime.exported import ExportError
from audiotok.runtime.stream import Stream

SMALL = Config(
    encoder=16,
    decoder=32,
    strides=(2, 4),
    encoder_blocks=2,
    latent=64,
    blocks=2,
    codebooks=4,
    size=32,
    semantic_size=64,
    code_width=4,
)


@pytest.fixture(scope="module")
def state(stored: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """The program's weights, with its tables."""
    shapes = json.loads(str(stored["shapes"]))
    tables = {name: torch.zeros(shape) for name, shape in shapes.items() if "freqs_cis" in name}
    assert len(tables) == 3
    return golden.weights(shapes, json.loads(str(stored["gains"]))) | tables


@pytest.fixture(scope="module")
def path(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fish") / "codec.pth"
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def codec(path: Path) -> Codec:
    return load(path)


def audio_of(samples: int) -> Audio:
    return Audio(golden.noise(samples)[0], 44100)


@pytest.mark.parametrize("samples", golden.LENGTHS)
def test_codes_and_waves_are_those_of_the_program(
    codec: Codec, stored: dict[str, np.ndarray], samples: int
):
    """The longest is more than the windows of attention."""
    audio, theirs = audio_of(samples), stored[f"codes {samples}"].astype(np.int64)
    tokens = codec.encode(audio)
    assert codec.config == SMALL
    assert tokens.codes.shape == theirs.shape
    assert near_ties(codec, audio, tokens.codes, theirs) <= theirs.size / 1000
    wave = torch.from_numpy(stored[f"wave {samples}"][:, :samples])
    assert_close(codec.decode(replace(tokens, codes=theirs)).samples, wave, 1e-4)


def test_a_stream_equals_the_whole_to_the_bit(codec: Codec):
    frame = codec.frame_size
    audio = audio_of(150 * frame + 33)
    tokens, stream = codec.encode(audio), Stream(codec, block=codec.block)
    pieces = [stream.encode(piece) for piece in audio.samples.split(frame + 7, 1)]
    live = torch.cat([*pieces, stream.finish_encode()], 1)
    assert np.array_equal(live.numpy(), tokens.codes)
    codes = torch.from_numpy(tokens.codes.copy())
    heard = [stream.decode(piece) for piece in codes.split(3, 1)]
    wave = torch.cat([*heard, stream.finish_decode()], 1)[:, : len(audio)]
    assert torch.equal(wave, codec.decode(tokens).samples)
    assert Stream(codec).latency.algorithmic == pytest.approx(frame / 44100)


def test_other_wrappings_are_read_and_tables_are_not(
    state: dict[str, Tensor], codec: Codec, path: Path, tmp_path: Path
):
    torch.save({"state_dict": {f"generator.{k}": v for k, v in state.items()}}, tmp_path / "a.ckpt")
    assert load(tmp_path / "a.ckpt").fingerprint == codec.fingerprint
    done = audiotok("convert", path, tmp_path / "ours.safetensors", "--json")
    assert done.code == 0, done.err
    assert done.json["config"]["semantic_size"] == 64
    ours = load(tmp_path / "ours.safetensors")
    assert ours.fingerprint == codec.fingerprint
    assert not any("freqs" in name for name in ours.state_dict())
    torch.save(state | {"quantizer.extra.weight": torch.ones(2)}, tmp_path / "b.pth")
    with pytest.raises(CheckpointError, match=r"unexpected: quantizer\.extra\.weight$"):
        load(tmp_path / "b.pth")


def test_rounded_rotation_is_not_exported(codec: Codec, tmp_path: Path):
    with pytest.raises(ExportError, match=r"^fish_s2 rounds its rotary positions"):
        export(codec, tmp_path / "onnx")


# -- beside the program, where it is installed -----------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # of theirs
def test_far_from_the_start(tmp_path: Path):
    """Positions are rounded, and the more so the larger they are."""
    if not golden.available():
        pytest.skip("vllm-omni 0.30.0 is not there")
    theirs, _ = golden.loaded(golden.small())
    torch.save(theirs.state_dict(), tmp_path / "codec.pth")
    codec, audio = load(tmp_path / "codec.pth"), audio_of(500 * golden.FRAME)
    codes = golden.encode(theirs, audio.samples[None]).numpy()
    tokens = codec.encode(audio)
    assert near_ties(codec, audio, tokens.codes, codes) <= codes.size / 1000
