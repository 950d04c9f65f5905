"""TaDiCodec's decoder: spectra of its repository, contracts of decoders, what it is told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from contracts import assert_close
from random_weights import random_weights
from safetensors.torch import save_file
from torch import Tensor

from audiotok.codecs.decoders.mel_flow import MelFlow, MelSampling
from audiotok.codecs.load import load_decoder

ROOT = Path(__file__).parents[2]
PUBLISHED = 495_766_670  # without the vocoder


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(ROOT / "tests/golden/mel_flow.npz") as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def folder(golden: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights as they are published: a vocoder in a folder of its own."""
    folder = tmp_path_factory.mktemp("tadicodec")
    (folder / "vocoder").mkdir()
    for name, key in (("model", "shapes"), ("vocoder/model", "vocoder shapes")):
        state = random_weights(json.loads(str(golden[key])))
        save_file(state, folder / f"{name}.safetensors")
    return folder


@pytest.fixture(scope="module")
def decoder(folder: Path) -> MelFlow:
    decoder = load_decoder(folder / "model.safetensors")
    assert isinstance(decoder, MelFlow)
    return decoder


def tensor(golden: dict[str, np.ndarray], name: str) -> Tensor:
    return torch.from_numpy(golden[name])


@pytest.mark.parametrize(
    ("name", "sampling"),
    [
        ("guided", MelSampling(4, seed=5, guidance=2.0, rescale=0.75)),
        ("plain", MelSampling(3, seed=5)),
        ("no prompt", MelSampling(3, seed=5, guidance=1.5)),
    ],
)
def test_spectra_are_those_of_the_repository(
    decoder: MelFlow, golden: dict[str, np.ndarray], name: str, sampling: MelSampling
):
    before = golden["prompt"].shape[1] // 8 if name != "no prompt" else 0
    codes = decoder.quantizer.decode(tensor(golden, "codes")[None, None])
    prompt = (codes[:, :, :before], tensor(golden, "prompt")) if before else None
    text = decoder.text(tensor(golden, "text"))
    mel = decoder.sampler.sampled(codes[:, :, before:], sampling, text=text, prompt=prompt)
    assert_close(mel[0], tensor(golden, name), 1e-5)
    if name == "guided":
        assert_close(decoder.sampler.sound(mel)[0, 0], tensor(golden, "wave"), 1e-4)


def test_all_weights_of_the_published_size_are_there():
    with torch.device("meta"):
        decoder = MelFlow()
    vocoder = decoder.sampler.vocoder
    assert vocoder is not None
    own = sum(p.numel() for p in vocoder.parameters())
    assert sum(p.numel() for p in decoder.parameters()) - own == PUBLISHED
