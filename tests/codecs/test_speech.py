"""Sizes of `Speech`: what the network cannot honour is refused before it is built."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from contracts import noise
from sizes import SMALL

from audiotok._platform.errors import InputError
from audiotok.codecs.checkpoint import load, save
from audiotok.codecs.load import load as load_in
from audiotok.codecs.models.speech import LEAST, Config, Speech
from audiotok.testing import assert_batches, assert_cuttable, assert_lengths_exact


@pytest.mark.parametrize("name", LEAST)
def test_a_size_below_its_least_is_refused(name: str):
    least = LEAST[name]
    with pytest.raises(InputError, match=f"^{name}={least - 1}: must be at least {least}$"):
        replace(SMALL, **{name: least - 1})


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"fold": 0}, "fold=0: a frame of 320 samples must divide"),
        ({"fold": 3}, "fold=3: a frame of 320 samples must divide"),
        ({"frame_size": 320, "fold": 320}, "fold=320: spectra of 1 sample"),
        ({"semantic_features": -1}, "semantic_features=-1: 0 or more"),
        ({"semantic_features": 16}, "semantic_features=16: 0 or more, and fewer than"),
        ({"encoder": 33}, "must be a multiple of 2 x heads"),
    ],
)
def test_sizes_that_do_not_fit_each_other_are_refused(sizes: dict[str, int], message: str):
    with pytest.raises(InputError, match=message):
        Speech(replace(SMALL, **sizes))


LEAST_SIZES = {k: v for k, v in LEAST.items() if k not in ("sample_rate", "encoder", "decoder")}


@pytest.mark.parametrize(
    "config",
    [
        *(replace(SMALL, **{name: least}) for name, least in LEAST_SIZES.items()),
        replace(SMALL, frame_size=321),
        replace(SMALL, semantic_features=1, semantic_encoder=4, semantic_blocks=2),
    ],
    ids=[*LEAST_SIZES, "odd", "semantic"],
)
def test_the_least_sizes_code_and_are_saved(config: Config, tmp_path: Path):
    torch.manual_seed(0)
    codec = Speech(config).eval().requires_grad_(False)
    assert_lengths_exact(codec, [0, 1, 3 * config.frame_size + 1])
    parameters = [p for part in codec.children() for p in part.parameters()]
    assert len({id(p) for p in parameters}) == len(parameters)
    every = sum(1 for m in codec.modules() if type(m).__name__ == "Convnext")
    blocks = config.encoder_blocks + config.decoder_blocks
    assert every == blocks + (config.semantic_blocks if config.semantic_features else 0)
    save(codec, tmp_path / "c.safetensors", card={})
    again = load(tmp_path / "c.safetensors")
    assert again.config == config
    assert [*again.state_dict()] == [*codec.state_dict()]


def test_music_codes_as_a_whole_in_pieces_and_in_a_batch():
    codec = load("music")
    audio = noise(codec, 12_345)
    assert codec.semantic_codebooks == codec.teacher_width == 0
    assert_lengths_exact(codec, [0, 1, 479, 480, 481, 12_345])
    assert_cuttable(codec, audio, examples=2)
    assert_batches(codec, [audio, noise(codec, 1), noise(codec, 9_600)])


def test_music_in_onnx_codes_as_in_torch():
    pytest.importorskip("onnxruntime")
    codec, exported = load("music"), load_in("music", backend="onnx", threads=1)
    tokens = codec.encode(noise(codec, 30_000))
    again = exported.encode(noise(codec, 30_000))
    assert (again.codes == tokens.codes).all()
    assert again.fingerprint == tokens.fingerprint
    wave, decoded = codec.decode(tokens), exported.decode(tokens)
    assert torch.allclose(decoded.samples, wave.samples, atol=1e-5)
