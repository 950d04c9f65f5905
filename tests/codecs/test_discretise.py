"""Codecs with another quantizer on latents that stay as they were."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import contracts
import pytest
import torch
from commandline import audiotok
from contracts import noise
from sizes import LATENTS, SIZES, SMALL, TOKENIZERS, made

from audiotok._platform.errors import InputError
from audiotok._platform.registry import UnknownPartError
from audiotok.codecs.checkpoint import load, read_card, save
from audiotok.codecs.latents import latents_of, quantize
from audiotok.codecs.models.base import Codec
from audiotok.codecs.models.discretised import Config, Discretised
from audiotok.codecs.quantizer_fit import (
    QuantizerTraining,
    discretise,
    fit_quantizer,
    frames_of,
    lost_share,
)
from audiotok.data.manifest import read_manifest
from audiotok.nn.quantizers.base import Quantizer
from audiotok.tokens.tokenizer import NoDecoderError

KINDS: dict[str, dict[str, Any]] = {
    "rvq": {"codebooks": 2, "size": 16},
    "fsq": {"levels": [4, 4, 4]},
    "simvq": {"size": 64},
    "gaussian_bins": {"levels": 4},
}
BASES = {  # with latents, without a decoder, and of other ways to the end of a recording
    "speech": ("speech", SMALL),
    "pocket_tts": LATENTS[0],
    "voxcpm": LATENTS[1],
    "vibevoice": LATENTS[2],
    "no decoder": LATENTS[-1],
    "dac": ("dac", SIZES["dac"][0]),
    "snac": ("snac", SIZES["snac"][1]),
    "voxtral": ("voxtral", SIZES["voxtral"][0]),
    "xcodec2": ("xcodec2", SIZES["xcodec2"][1]),
    "longcat": ("longcat", SIZES["longcat"][0]),
}
QUICK = QuantizerTraining(steps=30, batch=64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recordings")
    for i in range(3):
        noise(made("speech", SMALL), 9000 + 1234 * i, seed=i).save(path / f"{i}.wav")
    return path


@pytest.fixture(scope="module", params=BASES)
def base(request: pytest.FixtureRequest) -> Codec:
    return made(*BASES[request.param])


def test_it_keeps_the_network_and_learns_codes(base: Codec, tmp_path: Path):
    before, quantizer = base.fingerprint, [*KINDS][len(base.name) % len(KINDS)]
    frames = torch.cat([contracts.latents(base, noise(base, 20_000, seed=i)) for i in range(2)], 1)
    codec = discretise(base, frames, quantizer, KINDS[quantizer], QUICK)
    assert base.fingerprint == before
    assert (codec.kind, codec.name, codec.semantic_codebooks) == ("codes", "discretised", 0)
    assert (codec.causal, codec.frame_rate) == (base.causal, base.frame_rate)
    assert codec.decoded_rate == base.decoded_rate
    audio = noise(base, 7 * base.frame_size + 3)
    latents = latents_of(base, audio)
    assert (latents_of(codec, audio).values == latents.values).all()
    tokens = codec.encode(audio)
    assert quantize(codec, latents_of(codec, audio)) == tokens
    save(codec, tmp_path / "codec.safetensors", dtype=torch.float32)
    again = load(tmp_path / "codec.safetensors")
    assert again.fingerprint == codec.fingerprint
    assert again.encode(audio) == tokens
    facts = read_card(tmp_path / "codec.safetensors")["card"]["discretised"]
    assert (facts["codec"], facts["fingerprint"]) == (base.name, base.fingerprint)
    if not base.decodes:
        with pytest.raises(NoDecoderError):
            codec.decode(tokens)
        return
    assert torch.equal(again.decode(tokens).samples, codec.decode(tokens).samples)
    values = codec.quantizer.decode(torch.from_numpy(tokens.codes.copy())[None])
    decoded = codec.decode(tokens).samples
    assert decoded.shape[1] == codec.decoded_samples(len(audio))
    contracts.assert_close(decoded, base.waves(values)[0, :, : decoded.shape[1]])


def test_it_keeps_the_promises_of_the_network(base: Codec):
    frames = contracts.latents(base, noise(base, 20_000))
    codec = discretise(base, frames, "gaussian_bins", {"levels": 4})
    size = codec.frame_size
    contracts.assert_lengths_exact(codec, [0, 1, size - 1, size, size + 1, 12345])
    contracts.assert_cuttable(codec, noise(codec, 2 * size * codec.block + 123), examples=3)
    contracts.assert_batches(codec, [noise(codec, n) for n in (30_000, 1, 0, 12_345)])
    contracts.assert_receptive_field(codec)
    if math.isfinite(codec.latency) and codec.decodes:
        contracts.assert_live(codec, noise(codec, 20 * size + 7), examples=3)
        contracts.assert_latency(codec)


def error(quantizer: Quantizer, x: torch.Tensor) -> float:
    return lost_share(quantizer.eval(), x)


@pytest.mark.parametrize("quantizer", KINDS)
def test_training_restores_latents_and_a_seed_repeats_it(quantizer: str):
    base = made("speech", SMALL)
    frames = contracts.latents(base, noise(base, 60_000))
    random = torch.get_rng_state()
    few, one, two = (
        discretise(base, frames, quantizer, KINDS[quantizer], QuantizerTraining(steps=n, batch=64))
        for n in (1, 150, 150)
    )
    assert torch.equal(torch.get_rng_state(), random)
    assert one.fingerprint == two.fingerprint
    lost = lost_share(one.quantizer, frames)
    assert lost == one.card["discretised"]["lost_in_training"]
    if quantizer == "gaussian_bins":
        assert few.fingerprint == one.fingerprint, "one pass is all"
        assert 0.08 < lost < 0.2
    else:
        assert lost < 0.95 * lost_share(few.quantizer, frames)
    other = discretise(
        base, frames, quantizer, KINDS[quantizer], QuantizerTraining(steps=150, batch=64, seed=1)
    )
    assert (other.fingerprint != one.fingerprint) == (quantizer != "gaussian_bins")


def test_what_is_lost_is_a_share_of_the_variance():
    x = torch.randn(4, 5000, generator=torch.Generator().manual_seed(0)) * 7 + 100
    quantizer = Discretised(Config(features=96, quantizer="uniform")).quantizer
    fit_quantizer(quantizer, torch.zeros(96, 3), QUICK)  # nothing to learn, and no error
    bins = discretise(made(*LATENTS[0]), torch.cat([x, x]), "gaussian_bins", {"levels": 4})
    assert lost_share(bins.quantizer, torch.cat([x, x])) == pytest.approx(0.132, abs=0.01)
    assert lost_share(bins.quantizer, torch.cat([x, x]), 4) == pytest.approx(0.566, abs=0.02)


def test_recordings_without_frames_are_refused(tmp_path: Path):
    base = made("speech", SMALL)
    (tmp_path / "a.wav").write_bytes(b"no sound")
    with pytest.raises(InputError, match="no frames to learn from"):
        frames_of(base, read_manifest(tmp_path))


def test_networks_without_frames_of_latents_are_refused():
    frames = torch.randn(16, 50)
    (segmented,) = (config for config in SIZES["encodec"] if config.segment)
    with pytest.raises(InputError, match="codes segments"):
        discretise(made("encodec", segmented), frames)
    codec = discretise(made("speech", SMALL), frames, "fsq", KINDS["fsq"], QUICK)
    with pytest.raises(InputError, match="discretised already"):
        discretise(codec, frames)
    with pytest.raises(UnknownPartError, match="simvq"):
        discretise(made("speech", SMALL), frames, "simqv")
    with pytest.raises(InputError, match="no option 'sise'"):
        discretise(made("speech", SMALL), frames, "simvq", {"sise": 3})
    with pytest.raises(InputError, match="of 68719476736 entries, where tokens have at most"):
        discretise(made("speech", SMALL), frames, "fsq", {"levels": [64] * 6})
    bad: list[dict[str, Any]] = [{"steps": 0}, {"rate": math.inf}, {"rate": math.nan}]
    for wrong in bad:
        with pytest.raises(InputError, match="at least one of each"):
            QuantizerTraining(**wrong)
    for alike in (frames[:, :1], frames[:, :1].expand(-1, 9)):
        with pytest.raises(InputError, match="frames that are all alike"):
            discretise(made("speech", SMALL), alike)


@pytest.mark.parametrize(
    ("name", "why"),
    [("units", "it has several quantizers,"), ("dualcodec", "its latents depend on its codes")],
)
def test_codecs_whose_quantizer_cannot_be_replaced_are_refused(name: str, why: str):
    config = next(c for n, c in TOKENIZERS if n == name) if name == "units" else SIZES[name][0]
    codec = made(name, config)
    width = codec.latents(noise(codec, 20 * codec.frame_size).samples[None]).shape[1]
    with pytest.raises(InputError, match=why):
        discretise(codec, torch.randn(width, 50))


def test_the_command_makes_a_codec(folder: Path, tmp_path: Path):
    save(made(*LATENTS[0]), tmp_path / "base.safetensors", dtype=torch.float32)
    out = tmp_path / "codes.safetensors"
    words = ["discretise", tmp_path / "base.safetensors", folder, "-o", out, "--steps", "20"]
    words += ["--split", "", "--held-out", "", "--batch", "32"]
    options = ["--option", "codebooks=2", "--option", "size=16"]
    facts = json.loads(audiotok(*words, *options, "--json").out)
    assert (facts["recordings"], facts["codec"]) == (3, "pocket_tts")
    assert load(out).sizes == (16, 16)
    assert load(out).card["discretised"]["lost_in_training"] == facts["lost_in_training"]
    again = audiotok(*words, *options)
    assert again.lines == [f"error {out}: exists already; --force overwrites it"]
    for wrong, message in (
        (["--quantizer", "fsk"], "fsq"),
        (["--option", "size"], "NAME=VALUE"),
        (["--rate", "0"], "rate above zero"),
        (["--held-out", "dev"], "--held-out dev: all recordings are learnt from"),
        (["-o", tmp_path / "no/x.safetensors"], f"there is no folder {tmp_path / 'no'}"),
        (["--quantizer", "fsq", "--option", "size=3"], "no option 'size'"),
    ):
        done = audiotok(*words, "--force", *wrong)
        assert done.code
        assert len(done.lines) == 1
        assert message in done.lines[0]
    assert audiotok("encode", folder / "0.wav", "--codec", out, "-o", tmp_path / "a.tok").code == 0
    assert (
        audiotok("decode", tmp_path / "a.tok", "--codec", out, "-o", tmp_path / "a.wav").code == 0
    )
