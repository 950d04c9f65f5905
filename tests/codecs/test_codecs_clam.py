"""CLaM-TTS's Mel-VAE: spectra to codes and back, the loss that trains it, and what is heard.

With a Vocos it keeps every contract of codecs (test_codecs.py); by Griffin-Lim those that are here.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import contracts
import pytest
import torch
from commandline import audiotok
from contracts import noise
from sizes import SIZES, made
from torch import Tensor

from audiotok._platform.errors import InputError
from audiotok.audio.audio import Audio
from audiotok.codecs.checkpoint import load, save
from audiotok.codecs.conformance import conform
from audiotok.codecs.models.base import Codec
from audiotok.codecs.models.clam import Clam, Config
from audiotok.evaluation.metrics.stoi import Stoi
from audiotok.runtime.stream import Stream
from audiotok.training.loop import train
from audiotok.training.recipe import read_recipe

READING = Path(__file__).parents[2] / "egs/data/reading.flac"
SMALL: Config = replace(SIZES["clam"][0], vocoder_blocks=0)


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
    with pytest.raises(InputError, match="latent, strides and vocoder_width: at least 1"):
        Config(strides=(2, 0))
    with pytest.raises(InputError, match="blocks and vocoder_blocks: 0 or more"):
        Config(vocoder_blocks=-1)


# -- what is heard, by Griffin-Lim ----------------------------------------------------------------


@pytest.fixture(scope="module")
def codec() -> Codec:
    return made("clam", replace(SMALL, hop=128, window=256))


def test_lengths_are_exact(codec: Codec):
    frame, block = codec.frame_size, codec.block * codec.frame_size
    edges = [0, 1, 2, frame - 1, frame, frame + 1, 12345, block - 1, block, block + 1]
    contracts.assert_lengths_exact(codec, edges)


def test_any_cutting_and_batch_give_the_same_bits(codec: Codec):
    contracts.assert_cuttable(codec, noise(codec, 2 * codec.block * codec.frame_size + 1234))
    contracts.assert_batches(codec, [noise(codec, n) for n in (30_000, 1, 0, 12_345, 320)])
    contracts.assert_tensors(codec)
    tokens = [codec.encode(noise(codec, 3000, seed=seed)) for seed in range(7)]
    for one, beside in zip(tokens, codec.decode_batch(tokens, group=4), strict=True):
        assert torch.equal(codec.decode(one).samples, beside.samples)


def test_it_needs_the_whole_and_conforms(codec: Codec):
    assert math.isinf(codec.latency)
    with pytest.raises(ValueError, match=r"^codec 'clam' hears a recording"):
        Stream(codec)
    results = {result.check: result.verdict for result in conform(codec, noise(codec, 90_000))}
    assert "fail" not in results.values()
    assert {results[check] for check in ("length", "batch", "chunk", "round trip")} == {"pass"}


def test_spectra_of_a_recording_are_heard_as_it_is():
    reading = Audio.load(READING).mono().resample(22050)
    codec = Clam(replace(Config(), width=8, blocks=0)).eval()
    reading = reading[: 4 * 22050 // codec.frame_size * codec.frame_size]
    heard = codec.sound(codec.mels(reading.samples[None]))[0]
    assert heard.shape == reading.samples.shape
    assert Stoi().score(Audio(heard, 22050), reading).value > 0.9


def test_spectra_out_of_range_are_heard_as_the_loudest(codec: Codec):
    assert isinstance(codec, Clam)
    heard = codec.sound(torch.full((1, 12, 9), 60.0))
    assert heard.isfinite().all()
    assert heard.any()


def test_a_new_vocoder_leaves_codes_as_they_are(codec: Codec):
    assert isinstance(codec, Clam)
    tokens = codec.encode(noise(codec, 5000))
    first = codec.with_vocoder(blocks=1, width=16)
    better = first.with_vocoder(blocks=2, width=8)
    assert better.config == replace(codec.config, vocoder_blocks=2, vocoder_width=8)
    for other in (first.eval(), better.eval()):
        assert other.encode(noise(codec, 5000)) == tokens
        assert len(other.decode(tokens)) == 5000
        latent = codec.quantizer.decode(torch.from_numpy(tokens.codes.copy())[None])
        with torch.no_grad():
            assert torch.equal(other.restored(latent), codec.restored(latent))


def test_griffin_lim_is_not_trained():
    codec = Clam(SMALL).train()
    with pytest.raises(InputError, match="Griffin-Lim learns nothing: give it a vocoder"):
        codec(tones(4))


def test_a_recipe_trains_the_vocoder_and_leaves_codes(codec: Codec, tmp_path: Path):
    save(codec, tmp_path / "clam.safetensors")
    clam = load(tmp_path / "clam.safetensors")
    assert isinstance(clam, Clam)
    start = clam.with_vocoder(blocks=1, width=16).eval()
    save(start, tmp_path / "start.safetensors")
    lines = ["path\tsplit"]
    for i in range(3):
        noise(codec, 40_000, seed=i).save(tmp_path / f"{i}.wav")
        lines.append(f"{i}.wav\t{'dev' if i == 2 else 'train'}")
    (tmp_path / "m.tsv").write_text("\n".join(lines))
    path = READING.parents[2] / "recipes/vocoder_clam.toml"
    settings = {
        **{f"config.{name}": value for name, value in asdict(start.config).items()},
        "config.strides": [*start.config.strides],
        "data.manifest": str(tmp_path / "m.tsv"),
        "data.cache": str(tmp_path / "cache"),
        "data.batch": 1,
        "train.start_from": str(tmp_path / "start.safetensors"),
        **{f"train.{name}": 1 for name in ("warmup", "cooldown", "clips")},
        **{f"train.{name}": 2 for name in ("steps", "every")},
    }
    recipe = read_recipe(path, [f"{key}={json.dumps(value)}" for key, value in settings.items()])
    trained = load(train(recipe, tmp_path / "run"))
    tokens = clam.encode(noise(codec, 5000))
    assert trained.encode(noise(codec, 5000)) == tokens
    assert not torch.equal(trained.decode(tokens).samples, start.decode(tokens).samples)


def test_the_commands_make_sound_of_it(codec: Codec, tmp_path: Path):
    path, tokens, heard = (tmp_path / name for name in ("my.safetensors", "a.tok", "a.wav"))
    save(codec, path)
    done = audiotok("encode", READING, "--codec", path, "-o", tokens)
    assert done.code == 0, done.err
    done = audiotok("decode", tokens, "--codec", path, "-o", heard)
    assert done.code == 0, done.err
    assert len(Audio.load(heard)) == len(Audio.load(READING).resample(22050))
    done = audiotok("decode", tokens, "--codec", path, "-o", heard, "--force", "--rate", "original")
    assert done.code == 0, done.err
    assert len(Audio.load(heard)) == len(Audio.load(READING))
