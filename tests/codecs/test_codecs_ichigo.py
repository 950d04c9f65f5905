"""Ichigo's tokenizer: codes and features of its package, its mask, a codebook that grows."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from contracts import assert_close, noise
from peers import modules
from random_weights import random_weights
from sizes import made
from torch import Tensor
from torch.nn import functional as F

from audiotok._platform.errors import InputError
from audiotok.audio.audio import Audio
from audiotok.codecs.checkpoint import CheckpointError, load, save
from audiotok.codecs.models.ichigo import MASK, Config, Ichigo
from audiotok.data.features.whisper import sinusoids
from audiotok.nn.pretrained.state_dicts import StateDictError
from audiotok.nn.quantizers.cosine_vq import CosineVq

ROOT = Path(__file__).parents[2]
TINY = Config(width=128, heads=2, layers=1, segment=40, code_width=8, size=65, mask=64)


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(ROOT / "tests/golden/ichigo_codes.npz") as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def reading() -> Audio:
    return Audio.load(ROOT / "egs/data/reading.flac").resample(16000)


@pytest.fixture(scope="module")
def files(golden: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return the files of the quantizer and of Whisper, as published."""
    folder = tmp_path_factory.mktemp("ichigo")
    weights, whisper = (
        random_weights(json.loads(str(golden[f"{name} shapes"])), gain=2.0)
        for name in ("quantizer", "whisper")
    )
    book = F.normalize(weights["rq.layers.0._codebook.embed"], dim=2)
    book[0, 2000:2064] = torch.from_numpy(golden["entries"])
    weights["rq.layers.0._codebook.embed"] = book
    whisper["positional_embedding"] = sinusoids(1500, 128)
    torch.save({"state_dict": {f"model.{k}": v for k, v in weights.items()}}, folder / "q.pth")
    state = {f"encoder.{key}": value for key, value in whisper.items()}
    dims = json.loads(str(golden["dims"]))
    torch.save({"dims": dims, "model_state_dict": state}, folder / "whisper.pt")
    return [folder / "q.pth", folder / "whisper.pt"]


@pytest.fixture(scope="module")
def codec(files: list[Path]) -> Ichigo:
    return Ichigo.joined(*files)


def test_codes_are_those_of_the_package_but_for_its_mask(
    codec: Ichigo, golden: dict[str, np.ndarray], reading: Audio
):
    """Stored by golden/ichigo_codes.py: two seconds of reading, and all of it."""
    assert codec.config.mask == MASK
    assert MASK in golden["whole"]
    for audio, key in ((reading[16000:48160], "clip"), (reading, "whole")):
        codes, theirs = codec.encode(audio).codes[0], golden[key]
        assert len(codes) - len(theirs) in (0, 1)
        same = codes[: len(theirs)] == theirs
        assert np.array_equal(same, theirs != MASK)
        assert MASK not in codes


@torch.no_grad()
def test_features_are_those_that_whispers_decoder_reads(
    codec: Ichigo, golden: dict[str, np.ndarray]
):
    codes = torch.from_numpy(golden["whole"].astype(np.int64))[None, None]
    features = codec.dequantized(codes)[0].T
    assert_close(features[::100], torch.from_numpy(golden["features"]), 1e-4)
    with pytest.raises(InputError, match=r"^751 frames: a segment has 750 at most$"):
        codec.dequantized(torch.zeros(1, 1, 751, dtype=torch.int64))


def test_one_file_of_both(codec: Ichigo, reading: Audio, tmp_path: Path, files: list[Path]):
    save(codec, tmp_path / "ichigo.safetensors", dtype=torch.float32)
    again = load(tmp_path / "ichigo.safetensors")
    assert again.fingerprint == codec.fingerprint
    assert again.encode(reading) == codec.encode(reading)
    with pytest.raises(CheckpointError, match=r"the quantizer alone, .* Ichigo\.joined"):
        load(files[0])
    with pytest.raises(StateDictError, match=r"whisper.pt: no weights of ichigo-whisper 2\.3\.0$"):
        Ichigo.joined(files[1], files[1])


def test_another_whisper_is_refused(files: list[Path], tmp_path: Path):
    saved = torch.load(files[1], weights_only=True)
    state = {key: narrowed(value) for key, value in saved["model_state_dict"].items()}
    torch.save({"dims": {"n_audio_head": 1}, "model_state_dict": state}, tmp_path / "other.pt")
    with pytest.raises(StateDictError, match=r"a Whisper of 64 features, not of 128$"):
        Ichigo.joined(files[0], tmp_path / "other.pt")


def narrowed(x: Tensor) -> Tensor:
    """Return the part of a weight that a network of half the width has."""
    for axis, size in enumerate(x.shape):
        if size in (128, 512):
            x = x.narrow(axis, 0, size // 2)
    return x.clone()


def test_a_codebook_grows_and_keeps_its_tokens():
    codec = made("ichigo", TINY)
    assert isinstance(codec, Ichigo)
    audio, grown = noise(codec, 60_000), codec.grown(32)
    assert (grown.sizes, grown.config.mask) == ((97,), 64)
    assert not grown.training
    codes = codec.encode(audio).codes
    assert np.array_equal(grown.encode(audio).codes, codes)
    old = torch.arange(65)[None, None]
    assert torch.equal(grown.quantizer.decode(old), codec.quantizer.decode(old))

    latents = torch.randn(4, 128, 200)
    grown.train()
    grown.quantizer(latents)  # the first training step wakes the new entries
    grown.eval()
    used = grown.quantizer.encode(latents).unique()
    assert (used >= 65).any()
    assert 64 not in used
    # Old entries turn by the averages only, and stay whose they were.
    turned = F.cosine_similarity(*(c.quantizer.entries[:65] for c in (codec, grown)), dim=1)  # type: ignore
    assert (turned > 0.9).all()


def test_segments_are_coded_by_themselves():
    codec, size = made("ichigo", TINY), 40 * 320
    audio = noise(codec, 2 * size + 1000)
    parts = [audio[:size], audio[size : 2 * size], audio[2 * size :]]
    codes = np.concatenate([codec.encode(part).codes for part in parts], 1)
    assert np.array_equal(codec.encode(audio).codes, codes)
    with pytest.raises(InputError, match=r"^segment=41: an even number of frames$"):
        replace(TINY, segment=41)


def test_what_it_says_of_itself():
    codec = made("ichigo", TINY)
    whisper = sum(p.numel() for p in codec.encoder.get_submodule("whisper").parameters())
    assert codec.parameters_trained == sum(p.numel() for p in codec.parameters()) - whisper
    assert codec.codebook_values == 65 * 8
    assert codec.latency == 40 * 320 / 16000
    assert codec.receptive_field == (19 * 640, 19 * 640)
    with pytest.raises(InputError, match=r"^mask 65: an entry, 0 to 64$"):
        CosineVq(8, size=65, mask=65)


@pytest.mark.slow
@torch.no_grad()
def test_the_package_at_full_size(reading: Audio, tmp_path: Path):
    """With vector-quantize-pytorch 1.6.22, which the package asks for, or a later one."""
    with modules("ichigo_whisper", "ichigo_whisper.data"):
        config = import_module("ichigo_whisper.config.vq_config").VQConfig(codebook_dim=64)
        factory = import_module("ichigo_whisper.models.factory")
        torch.manual_seed(0)
        package = factory.make_vq_model("merge-medium-vi-2d-2560c-dim64", config=config).eval()
        encoder = import_module("whisper.model").AudioEncoder(80, 1500, 1024, 16, 24).eval()
    for parameter in [*package.parameters(), *encoder.parameters()]:
        if parameter.dim() > 1:
            parameter.normal_(0, 1.5 / parameter[0].numel() ** 0.5)
    package.whmodel = [SimpleNamespace(encoder=encoder)]
    wave = reading.samples
    mel = package.log_mel_spectrogram(wave)
    x = package.downsample_embeddings(encoder(F.pad(mel, (0, 3000 - mel.shape[2]), value=-1.5)))
    project = getattr(package.rq, "project_in", None) or package.rq.layers[0].project_in
    x = project(x + package.mlp(package.mlp_ln(x)))[0]
    book = package.rq.layers[0]._codebook.embed
    x = x[: mel.shape[2] // 4 : 2]  # and no two entries alike, which would be near-ties
    book[0, torch.randperm(MASK)[: len(x)]] = F.normalize(x)
    torch.save({"state_dict": package.state_dict()}, tmp_path / "q.pth")
    state = {f"encoder.{key}": value for key, value in encoder.state_dict().items()}
    torch.save({"dims": {"n_audio_head": 16}, "model_state_dict": state}, tmp_path / "w.pt")
    codec = Ichigo.joined(tmp_path / "q.pth", tmp_path / "w.pt")
    assert codec.parameters_trained == sum(p.numel() for p in package.parameters())
    assert codec.config == Config()
    theirs = package.quantize(wave)[0]
    codes = codec.encode(reading).codes[0]
    assert np.array_equal(codes[: len(theirs)], theirs.numpy())
    assert len(np.unique(codes)) > len(codes) / 3
    features = codec.dequantized(theirs[None, None].long())[0].T
    assert_close(features, package.dequantize(theirs)[0], 1e-4)
