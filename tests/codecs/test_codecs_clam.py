"""CLaM-TTS's Mel-VAE: spectra to codes and back, and the loss that trains it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from sizes import TOKENIZERS
from torch import Tensor

from audiotok._platform.errors import InputError
from audiotok.codecs.models.clam import Clam, Config

SMALL: Config = dict(TOKENIZERS)["clam"]


def tones(frames: int) -> Tensor:
    """Waves `[b 1 t]` of whole frames of a small codec, of tones that differ."""
    time = torch.arange(frames * 160) / SMALL.sample_rate
    pitch = torch.tensor([200.0, 400.0, 800.0, 1600.0])[:, None, None]
    loud = 0.3 * (1 + torch.sin(2 * torch.pi * 9 * time))
    return loud * torch.sin(2 * torch.pi * pitch * time)


def test_the_published_size_has_32_codes_of_10_bits_at_10_8_hz():
    with torch.device("meta"):
        codec = Clam()
    assert codec.sizes == (1024,) * 32
    assert codec.frame_rate == pytest.approx(10.77, abs=0.01)
    assert codec.kbps == pytest.approx(3.445, abs=0.001)
    assert codec.latency == float("inf") or codec.latency < 0.5


def test_spectra_come_back_in_the_number_they_went_in():
    codec = Clam(SMALL).eval()
    spectra = codec.mels(tones(25))
    assert spectra.shape == (4, 12, 100)
    assert (
        codec.restored(
            codec.quantizer.decode(codec.quantizer.encode(codec.latents(tones(25))))
        ).shape
        == spectra.shape
    )


def test_training_brings_spectra_of_codes_nearer_to_those_of_the_wave():
    torch.manual_seed(0)
    codec = Clam(replace(SMALL, width=32)).train()
    wave = tones(25)
    optimizer = torch.optim.Adam(codec.parameters(), 3e-3)

    @torch.no_grad()
    def distance() -> float:
        latent = codec.quantizer.decode(codec.quantizer.encode(codec.latents(wave)))
        return float((codec.restored(latent) - codec.mels(wave)).abs().mean())

    before = distance()
    for _ in range(60):
        optimizer.zero_grad()
        loss = codec.loss(wave)
        loss.backward()
        optimizer.step()
    assert all(p.grad is not None for p in codec.parameters())
    assert distance() < before / 3


def test_sizes_that_make_no_network_are_refused():
    with pytest.raises(InputError, match="width, latent and strides: at least 1"):
        Config(strides=(2, 0))
