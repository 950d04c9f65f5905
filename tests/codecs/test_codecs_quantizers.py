"""Our codec with each of the quantizers: it trains, codes, streams, and comes back from a file."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import contracts
import pytest
import sizes
import torch
from contracts import noise

from audiotok._platform.registry import UnknownPartError, names
from audiotok.codecs.checkpoint import CheckpointError, load, save
from audiotok.codecs.models.speech import Config, Speech
from audiotok.tokens.tokens import Tokens

SMALL = replace(sizes.SMALL, codebooks=3)
OPTIONS: dict[str, dict[str, Any]] = {
    "rvq": {},
    "split_rvq": {"codebooks": 3, "size": 64},
    "grouped_rvq": {"groups": ((4, 1), (12, 2)), "size": 64},
    "grvq": {"codebooks": 4, "size": 64},
    "projected_rvq": {"codebooks": 3, "size": 64, "width": 4},
    "probabilistic_rvq": {"codebooks": 3, "size": 64},
    "multi_scale_rvq": {"size": 64, "width": 4},
    "fsq": {"levels": (8, 8, 8, 5, 5, 5), "dither": 0.5},
    "residual_fsq": {"levels": (5,) * 6},
    "product_fsq": {"levels": (8, 8)},
    "lfq": {},
    "bsq": {"bits": 18},
    "simvq": {"size": 64},
    "product_vq": {"codebooks": 4, "size": 64},
    "agrvq": {"size": 9},
    "cosine_vq": {"size": 64, "width": 8},
    "shared_vq": {"codebooks": 4, "size": 64},
    "uniform": {"levels": 64, "low": -4.0, "high": 4.0},
    "gaussian_bins": {"levels": 8},
    # Its latents are not frames of one rate: it belongs to its own codec.
    "segment_rvq": {},
}
FAMILY = [name for name in names("quantizers") if name != "segment_rvq"]


@pytest.fixture(scope="module", params=FAMILY)
def codec(request: pytest.FixtureRequest) -> Speech:
    """After a few steps, as in training."""
    torch.manual_seed(0)
    name = request.param
    codec = Speech(replace(SMALL, quantizer=name, quantizer_options=OPTIONS[name])).train()
    optimizer = torch.optim.Adam(codec.parameters(), 1e-3)
    wave = torch.stack([noise(codec, 40 * codec.frame_size, seed=i).samples for i in range(4)])
    for _ in range(3):
        keep = torch.tensor([codec.codebooks, 1, codec.codebooks, 1])
        made, quantized = codec(wave, keep)
        loss = (made - wave).square().mean() + quantized.losses["commitment"]
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad.isfinite().all() for p in codec.parameters() if p.grad is not None)
        optimizer.step()
    return codec.eval().requires_grad_(False)


def test_it_is_causal_and_codes(codec: Speech):
    assert codec.causal
    assert codec.latency == 0.04
    assert codec.kbps == pytest.approx(0.05 * sum(math.log2(n) for n in codec.sizes))
    contracts.assert_lengths_exact(codec, [0, 1, 319, 320, 321, 5000])
    audio = noise(codec, 30 * codec.frame_size + 123)
    assert len(codec.encode(audio).codes[0].tolist()) == 31
    contracts.assert_prefixes(codec, audio)


def test_a_stream_and_any_cutting_give_the_same_codes(codec: Speech):
    contracts.assert_live(codec, noise(codec, 30 * codec.frame_size + 123), examples=3)
    contracts.assert_cuttable(codec, noise(codec, 200 * codec.frame_size + 77), examples=3)


def test_every_parameter_learns(codec: Speech):
    torch.manual_seed(0)
    contracts.assert_trains(Speech(codec.config))


def test_files_bring_back_codec_and_codes(codec: Speech, tmp_path: Path):
    save(codec, tmp_path / "codec.safetensors", dtype=torch.float32)
    again = load(tmp_path / "codec.safetensors")
    assert again.sizes == codec.sizes
    tokens = codec.encode(noise(codec, 9 * codec.frame_size))
    tokens.save(tmp_path / "one.tok")
    read = Tokens.load(tmp_path / "one.tok")
    assert (read.codes == tokens.codes).all()
    assert torch.equal(again.decode(read).samples, codec.decode(tokens).samples)


def test_rvq_is_the_quantizer_that_weights_were_shipped_with():
    codec = load("speech")
    assert codec.config == Config(quantizer_options={"early": 3, "early_features": 32})
    assert codec.config.quantizer == "rvq"
    shapes = {key: value.shape for key, value in codec.state_dict().items()}
    assert {f"quantizer.stages.{i}.entries" for i in range(8)} < shapes.keys()
    assert shapes == {key: value.shape for key, value in Speech().state_dict().items()}


def test_unknown_quantizers_and_options_are_named(tmp_path: Path):
    with pytest.raises(UnknownPartError, match="Did you mean 'simvq'"):
        Speech(replace(SMALL, quantizer="simqv"))
    codec = Speech(SMALL)
    codec.config = replace(SMALL, quantizer_options={"sise": 3})
    save(codec, tmp_path / "codec.safetensors")
    with pytest.raises(CheckpointError, match="sise"):
        load(tmp_path / "codec.safetensors")
