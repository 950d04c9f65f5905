"""S3 tokenizers: codes of the package s3tokenizer, also of more than 30 s, and exact lengths."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contracts import noise
from hypothesis import given
from hypothesis import strategies as st
from random_weights import random_weights
from sizes import ready
from test_codecs_oracles import imported
from torch import Tensor
from torch.nn import functional as F

from audiotok._platform.errors import InputError
from audiotok.audio.audio import Audio
from audiotok.codecs.checkpoint import CheckpointError, load
from audiotok.codecs.models.s3 import LEVELS, S3, Config
from audiotok.nn.log_mel import mirrored, normalised, power_logs
from audiotok.nn.pretrained.state_dicts import recognise

ROOT = Path(__file__).parents[2]
NAMES = list(S3.presets)
SMALL: dict[str, Any] = {"width": 128, "heads": 2, "layers": 2, "size": 64}


def small(name: str) -> Config:
    """Return the sizes of the stored codes of a preset."""
    layers = 3 if name == "s3_v3_25hz" else 2
    return replace(S3.presets[name], **SMALL | {"layers": layers})


def with_weights(config: Config, theirs: Mapping[str, Tensor]) -> S3:
    """Return a tokenizer with weights by the names of the package."""
    adapter = recognise(S3.state_dict_adapters, theirs)
    assert adapter is not None
    weights, _ = adapter.translate(dict(theirs))
    codec = S3(config)
    codec.load_state_dict(weights)
    sizes = adapter.sizes(weights, {})
    assert sizes.items() <= vars(config).items()
    return ready(codec)  # type: ignore[return-value]


@pytest.fixture(scope="module")
def reading() -> Tensor:
    return Audio.load(ROOT / "egs/data/reading.flac").resample(16000).samples


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(ROOT / "tests/golden/s3_codes.npz") as stored:
        return dict(stored)


def stored_weights(golden: dict[str, np.ndarray], name: str) -> dict[str, Tensor]:
    """Return the weights that the stored codes are of, by the package's names."""
    weights = random_weights(json.loads(str(golden[f"{name} shapes"])), gain=3.0)
    if f"{name} entries" in golden:
        weights["quantizer._codebook.embed"] = torch.from_numpy(golden[f"{name} entries"])
        weights["encoder.positional_embedding"] = S3(small(name)).state_dict()["encoder.positions"]
    return weights


@pytest.mark.parametrize("name", NAMES)
def test_codes_are_those_of_the_package(
    name: str, golden: dict[str, np.ndarray], reading: Tensor, tmp_path: Path
):
    """Stored by golden/s3_codes.py: two seconds of reading, and four times all of it."""
    weights = stored_weights(golden, name)
    codec = with_weights(small(name), weights)
    for audio, key in ((reading[:, 16000:48160], "clip"), (reading.repeat(1, 4), "long")):
        codes = codec.encode(Audio(audio, 16000)).codes[0]
        assert np.array_equal(codes, golden[f"{name} {key}"])
    if name != "s3_v1_25hz":  # whose weights are as those of 50 frames/s
        torch.save(weights, tmp_path / "small.pt")
        assert load(tmp_path / "small.pt").fingerprint == replaced_name(codec).fingerprint


def replaced_name(codec: S3) -> S3:
    codec.name = "s3"
    return codec


def test_what_is_partial_or_impossible_is_refused(tmp_path: Path, golden: dict[str, np.ndarray]):
    weights = stored_weights(golden, "s3_v2_25hz")
    del weights["encoder.blocks.1.mlp.0.bias"]
    torch.save(weights, tmp_path / "partial.pt")
    with pytest.raises(CheckpointError, match=r"missing: encoder\.blocks\.1\.up\.bias"):
        load(tmp_path / "partial.pt")
    with pytest.raises(InputError, match=r"^stride=3: 1 for 50 frames/s, or 2 for 25$"):
        Config(stride=3)


@given(steps=st.integers(0, 20_000), stride=st.sampled_from([1, 2]))
def test_windows_give_every_frame_once(steps: int, stride: int):
    encoder: Any = ENCODERS[stride]
    frames = []
    for begin, end, first, last in encoder._windows(steps):
        own = range(begin // (2 * stride), -(-end // (2 * stride)))
        assert end - begin <= 3000
        frames += own[first:last]
        if begin:
            assert len(own) >= 200 // stride  # four seconds, or the window before goes on
    assert frames == [*range(-(-steps // (2 * stride)))]


ENCODERS = {n: S3(Config(stride=n, bands=4, width=8, heads=1, layers=1)).encoder for n in (1, 2)}


@pytest.mark.parametrize("name", ["s3_v1", "s3_v2_25hz"])
def test_a_frame_of_less_than_a_step_changes_no_other(
    name: str, golden: dict[str, np.ndarray], reading: Tensor
):
    codec = with_weights(small(name), stored_weights(golden, name))
    for samples in (codec.frame_size * 40, 31 * 16000):
        for more in (1, 159):
            wave = reading.repeat(1, 4)[:, : samples + more]
            logs = power_logs(mirrored(wave), 128)
            whole = logs[:, :, : samples // 160]
            mel = normalised(whole, whole.amax((1, 2), keepdim=True))
            encoder: Any = codec.encoder
            begins = list(encoder._windows(samples // 160))
            latents = [encoder._latents(mel[:, :, a:b])[:, :, c:d] for a, b, c, d in begins]
            codes = codec.quantizer.encode(torch.cat(latents, 2))[0, 0]
            tokens = codec.encode(Audio(wave, 16000))
            assert tokens.frames == len(codes) + 1
            assert np.array_equal(tokens.codes[0, :-1], codes)


def test_all_codes_of_rounded_features_are_reached():
    quantizer = S3(small("s3_v2_25hz")).quantizer
    assert quantizer.sizes == (6561,)
    grid = torch.tensor(list(product((-9.0, 0.0, 9.0), repeat=8)))
    codes = quantizer.encode(grid.T[None])[0, 0]
    assert sorted(codes.tolist()) == [*range(LEVELS**8)]
    digits = (grid.sign() + 1).long() @ (3 ** torch.arange(8))
    assert torch.equal(codes, digits)
    # tanh is 0.5 / 0.999 where the next level begins.
    edge = torch.atanh(torch.tensor(0.5 / 0.999))
    x = torch.zeros(1, 8, 2)
    x[0, 0] = torch.stack([edge - 1e-5, edge + 1e-5])
    assert quantizer.encode(x)[0, 0].tolist() == [3280, 3281]


def test_very_short_recordings_have_a_frame():
    codec = ready(S3(small("s3_v2_25hz")))
    for samples in (1, 159, 160, 200, 201, 640):
        assert codec.encode(noise(codec, samples)).frames == 1


# -- the package, at full size ------------------------------------------------------------------


@torch.no_grad()
def packaged(name: str) -> Any:
    """Return the package's tokenizer of a preset with random weights, as large as published."""
    with imported("s3tokenizer.model", "s3tokenizer.model_v2", "s3tokenizer.model_v3") as (a, b, c):
        kind = {"s3_v2_25hz": b.S3TokenizerV2, "s3_v3_25hz": c.S3TokenizerV3}
        torch.manual_seed(0)
        package = kind.get(name, a.S3Tokenizer)(name.replace("s3_", "speech_tokenizer_")).eval()
    for parameter in package.named_parameters():
        if parameter[1].dim() == 2:
            parameter[1].mul_(2)
    return package


@torch.no_grad()
def enliven(package: Any, mel: Tensor) -> None:
    """Make the codes of a spectrum `[1 bands s]` differ from frame to frame."""
    book = package.quantizer._codebook
    hidden = package.encoder(mel, torch.tensor([mel.shape[2]]))[0][0]
    if hasattr(book, "project_down"):
        down = book.project_down
        down.weight.div_(down(hidden).std(0)[:, None])
        down.bias.zero_().sub_(down(hidden).mean(0))
    else:
        entries = F.normalize(hidden)[torch.randint(len(hidden), (len(book.embed),))]
        book.embed.copy_(F.normalize(entries + 0.01 * torch.randn(entries.shape[1])))


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_the_package_at_full_size(name: str, reading: Tensor):
    """Codes of clips and of more than half a minute."""
    package = packaged(name)
    spectrum = sys.modules["s3tokenizer.utils"].log_mel_spectrogram
    long = reading.repeat(1, 6)
    clips = [reading[0, 3000 * i : 3000 * i + 12_345 * (i + 1)] for i in range(6)]
    clips += [long[0, : 31 * 16000 + 77], long[0, : 16000 * 57]]
    mels = [spectrum(clip) for clip in clips]
    enliven(package, mels[-1][None, :, :3000])
    codec = with_weights(S3.presets[name], package.state_dict())
    assert codec.parameters_trained == sum(p.numel() for p in package.parameters())
    distinct = set()
    tokens = codec.encode_batch([Audio(clip[None], 16000) for clip in clips])
    for mel, own in zip(mels, tokens, strict=True):
        codes, lengths = package.quantize(mel[None], torch.tensor([mel.shape[1]]))
        codes = codes[0, : lengths[0]].numpy()
        assert own.frames - len(codes) in (0, 1)
        assert np.array_equal(own.codes[0, : len(codes)], codes)
        distinct |= {*codes.tolist()}
    assert len(distinct) > 50
