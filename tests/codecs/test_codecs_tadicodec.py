"""TaDiCodec's tokenizer: codes of its repository, its rate, its bits, weights by its names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from contracts import assert_close, noise
from random_weights import random_weights
from sizes import made
from torch import Tensor

from audiotok.audio.audio import Audio
from audiotok.codecs.checkpoint import CheckpointError, load
from audiotok.codecs.models.tadicodec import Config, Tadicodec
from audiotok.tokens.tokenizer import NoDecoderError

ROOT = Path(__file__).parents[2]
SMALL = Config(bands=40, width=128, blocks=3, heads=2)
FRAMES = 50


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(ROOT / "tests/golden/tadicodec_codes.npz") as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def weights(golden: dict[str, np.ndarray]) -> dict[str, Tensor]:
    return random_weights(json.loads(str(golden["shapes"])), gain=3.0)


@pytest.fixture(scope="module")
def codec(weights: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Tadicodec:
    path = tmp_path_factory.mktemp("tadicodec") / "model.pt"
    torch.save(weights, path)
    codec = load(path)
    assert isinstance(codec, Tadicodec)
    assert codec.config == SMALL
    return codec


@pytest.fixture(scope="module")
def reading() -> Tensor:
    return Audio.load(ROOT / "egs/data/reading.flac").resample(24000).samples


def test_codes_are_those_of_the_repository(
    codec: Tadicodec, golden: dict[str, np.ndarray], reading: Tensor
):
    whole = reading[:, : codec.frame_size * FRAMES]
    codes = codec.encode(Audio(whole, 24000)).codes
    assert len(np.unique(codes)) > FRAMES / 2
    assert np.array_equal(codes[0], golden["whole codes"])
    spectrum = codec.encoder.spectrum(whole)[0, :, :20]  # pyright: ignore
    assert_close(spectrum, torch.from_numpy(golden["spectrum"]), 1e-5)
    decoded = codec.quantizer.decode(torch.from_numpy(codes[None].copy()))[0].T[:10]
    assert_close(decoded, torch.from_numpy(golden["decoded"]), 1e-5)


def test_a_frame_that_is_begun_counts(
    codec: Tadicodec, golden: dict[str, np.ndarray], reading: Tensor
):
    """Their program leaves out what is less than a frame, and stretches what is before it."""
    longer = Audio(reading[:, : codec.frame_size * FRAMES + 5 * 480], 24000)
    tokens = codec.encode(longer)
    assert len(golden["longer codes"]) == FRAMES
    assert (tokens.frames, tokens.samples) == (FRAMES + 1, len(longer))
    filled = Audio(torch.nn.functional.pad(longer.samples, (0, 3 * 480)), 24000)
    assert np.array_equal(codec.encode(filled).codes, tokens.codes)


def test_every_code_comes_back():
    codec = Tadicodec(Config(width=8, blocks=1, heads=1, bits=14))
    assert codec.frame_rate == 6.25
    assert codec.kbps == 0.0875
    codes = torch.arange(2**14)[None]
    entries = codec.quantizer.look_up(codes)  # pyright: ignore
    assert_close(entries.norm(dim=2), torch.ones(1, 2**14), 1e-6)
    assert torch.equal(codec.quantizer.search(entries), codes)  # pyright: ignore


def test_it_does_not_decode(codec: Tadicodec):
    with pytest.raises(NoDecoderError):
        codec.decode(codec.encode(noise(codec, 9000)))


def test_weights_that_are_missing_are_named(weights: dict[str, Tensor], tmp_path: Path):
    lacking = {k: v for k, v in weights.items() if k != "encoder.layers.1.self_attn.o_proj.weight"}
    torch.save(lacking, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"blocks\.layers\.2\.body\.layers\.1\.out\.weight"):
        load(tmp_path / "model.pt")


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="heads share the width"):
        Config(width=30, heads=4)
    assert made("tadicodec", Config(width=8, blocks=1, heads=1)).config.width == 8
