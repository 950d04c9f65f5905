"""Training of a vocoder: on cached tokens of a frozen tokenizer, resumed exactly, into one file."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sizes import LISTENER, SMALL, made

from audiotok._platform.errors import InputError
from audiotok.audio.audio import Audio
from audiotok.codecs.checkpoint import save
from audiotok.codecs.decoders.vocoder import TRAITS, Vocoder, traits_of
from audiotok.codecs.load import load, load_decoder
from audiotok.codecs.models.kmeans import KmeansConfig
from audiotok.data.batches import BatchConfig, Batches
from audiotok.data.cache import SampleCache
from audiotok.data.manifest import read_manifest
from audiotok.tokens.codebooks import NoCodesError
from audiotok.training.estimate import estimate
from audiotok.training.loop import train
from audiotok.training.recipe import Recipe, read_recipe
from audiotok.training.resynthesis import Resynthesis

ROOT = Path(__file__).parents[2]
READING = ROOT / "egs" / "data" / "reading.flac"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository's recording in pieces of a second, and units of a small random Whisper."""
    folder = tmp_path_factory.mktemp("vocoder")
    audio = Audio.load(READING)
    lines = ["path\tsplit"]
    for i in range(int(audio.seconds)):
        audio[i * audio.rate : (i + 1) * audio.rate].save(folder / f"{i}.wav")
        lines.append(f"{i}.wav\t{'dev' if i % 5 == 4 else 'train'}")
    (folder / "m.tsv").write_text("\n".join(lines))
    units = made("kmeans", KmeansConfig(layers=(1, 2), size=40, mean_of=2, network=LISTENER))
    save(units, folder / "units.safetensors", dtype=torch.float32)
    return folder


def recipe(folder: Path, name: str, *settings: str) -> Recipe:
    """Return a recipe of a small vocoder for a few steps."""
    tokenizer = [f"tokenizer={folder / 'units.safetensors'}"] if name == "units" else []
    small = ["config.width=16", "config.reading=1", "config.blocks=1", "config.speaker=4"]
    data = [f"data.manifest={folder / 'm.tsv'}", f"data.cache={folder / 'cache'}"]
    crops = ["data.seconds=0.2", "data.batch=2", "train.every=2", "train.steps=4"]
    starts = ["loss_start.mel=2", "loss_start.spectrum=2", "train.warmup=1", "train.clips=1"]
    path = ROOT / "recipes" / f"vocoder_{name}.toml"
    return read_recipe(path, [*tokenizer, *small, *data, *crops, *starts, *settings])


@pytest.mark.parametrize("name", ["dmel", "units"])
def test_a_run_makes_a_decoder_of_its_tokenizer(folder: Path, tmp_path: Path, name: str):
    best = train(recipe(folder, name, "train.score=4"), tmp_path)
    with (tmp_path / "log.csv").open() as file:
        first, last = csv.DictReader(file)
    assert not first["mel"]
    assert float(first["held_mel"]) > 0
    assert float(last["mel"]) > 0
    assert float(last["held_latent"]) < float(first["held_latent"])
    assert bool(last.get("pitch")) == (name == "units")
    assert float(last["score_stoi"]) <= 1
    decoder = load_decoder(best)
    tokenizer = load("dmel_40hz" if name == "dmel" else folder / "units.safetensors")
    tokens = tokenizer.encode(Audio.load(READING)[:50_000])
    assert len(decoder.conditioned(prompt=READING).decode(tokens)) == tokens.samples
    assert decoder.decode(tokens.first(1)).samples.isfinite().all()
    assert decoder.source.fingerprint == ("" if name == "dmel" else tokenizer.fingerprint)


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(folder: Path, tmp_path: Path):
    whole = train(recipe(folder, "units"), tmp_path / "whole")
    train(recipe(folder, "units", "train.steps=4"), tmp_path / "parts", minutes=1e-9)
    assert torch.load(tmp_path / "parts/last.pt", weights_only=True)["step"] == 1
    for _ in range(3):
        train(recipe(folder, "units"), tmp_path / "parts", minutes=1e-9)
    parts = tmp_path / "parts" / whole.name
    one, other = (load_decoder(path).state_dict() for path in (whole, parts))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_run_is_measured_before_it_begins(folder: Path):
    cost = estimate(recipe(folder, "units"), steps=1)
    assert cost["gflops_per_second_of_audio"] > 0.3  # of the decoder of `speech` alone
    assert cost["audio_seconds_a_second"] > 0


def test_what_is_heard_is_what_the_tokenizer_and_speech_say(folder: Path):
    heard = Resynthesis(recipe(folder, "dmel"))
    assert (heard.group, heard.spectra, heard.group_samples) == (4, 5, 1600)
    recordings = read_manifest(str(folder / "m.tsv"), split="train")
    features = heard.features(recordings, folder / "cache")
    tokens = load("dmel_40hz").encode(folder / "0.wav")
    rows = features.crop(0, 0, 10)
    codes, octaves, voiced, latents, traits = heard._parts(rows[None])
    assert np.array_equal(codes[0, :, : tokens.frames], tokens.codes)
    assert octaves.shape == voiced.shape == (1, 40)
    wave = recordings[0].load().mono().resample(16000).samples
    expected = load("speech").latents(wave[None])
    assert torch.allclose(latents[:, :, : expected.shape[2]], expected, atol=1e-2)
    assert torch.allclose(traits[0], traits_of(wave[0]), atol=1e-2)
    assert traits.shape == (1, TRAITS)
    assert torch.equal(features.crop(0, 3, 2), rows[3:5])
    assert torch.equal(features.crop(0, 9, 3)[2], features.crop(0, 9, 1)[0])  # past the end
    before = {f: f.stat().st_mtime_ns for f in features.files if f}
    heard.features(recordings, folder / "cache")
    assert before == {f: f.stat().st_mtime_ns for f in before}


@pytest.mark.parametrize("samples", [1, 320, 321, 1599, 1601, 5000])
def test_rows_are_whole_however_short_a_recording_is(folder: Path, samples: int):
    """Where the last row lacks frames of tokens or of `speech`, the last ones are repeated."""
    heard = Resynthesis(recipe(folder, "dmel"))
    audio = Audio.load(READING).mono().resample(16000)[20_000 : 20_000 + samples]
    codebooks, latent = heard.tokenizer.codebooks, heard.speech.config.latent
    width = heard.group * (codebooks + 2) + heard.spectra * latent
    rows = heard.described(audio)[TRAITS:].reshape(-1, width)
    assert len(rows) == -(-samples // heard.group_samples)
    codes = rows[:, : heard.group * codebooks].reshape(-1, codebooks).T
    expected = heard.tokenizer.encode(audio).codes
    frames = expected.shape[1]
    assert np.array_equal(codes[:, :frames], expected)
    assert (codes[:, frames:] == expected[:, -1:]).all()
    halves = rows[:, -heard.spectra * latent :].copy().view(np.float16).reshape(-1, latent).T
    latents = heard.speech.latents(audio.samples[None])[0].half().numpy()
    assert np.allclose(halves[:, : latents.shape[1]], latents, atol=1e-2)


def test_training_reaches_every_weight_and_drops_codebooks(folder: Path):
    heard = Resynthesis(recipe(folder, "units"))
    vocoder = heard.vocoder({"width": 16, "speaker": 4})
    assert isinstance(vocoder, Vocoder)
    rows = read_manifest(str(folder / "m.tsv"), split="train")
    features = heard.features(rows, folder / "cache")
    source = SampleCache.build(rows, 16000, folder / "cache")
    batch = Batches(source, BatchConfig(12, 10, heard.group_samples), features=features)[0]
    torch.manual_seed(0)
    keep = torch.tensor([1, 2] * 6)
    output, quantized = heard(vocoder.train(), batch, keep)
    assert output is not None
    assert output.shape == batch.wave.shape
    (output.square().mean() + sum(quantized.losses.values())).backward()
    for key, parameter in vocoder.named_parameters():
        assert parameter.grad is not None, key
        if key != "quantizer.absent":
            assert parameter.grad.any(), key
    batch.wave[0, 0, 5000:] = 0
    output, _ = heard(vocoder, batch, keep)
    assert output is not None
    assert not output[0, 0, 5000:].any()  # the silence that crops are filled up with
    assert output[0, 0, 4990:5000].any()
    silent, again = heard(vocoder, batch, keep, sound=False)
    assert silent is None
    assert again.codes.shape == quantized.codes.shape


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["loss.commitment=1"], r"\[loss\] commitment: trains a tokenizer, and this one is frozen"),
        (["data.augment.gain=0.5"], "gain, flip, band and noise must be 0 with a frozen tokenizer"),
        (["loss_start.waveform=3"], r"\[loss_start\]: \['waveform'\] are no losses in \[loss\]"),
        (["tokenizer="], r"\[loss\] latent needs a frozen tokenizer: tokenizer = NAME"),
        (["config.depth=3"], r"\[config\]: unknown \['depth'\]; known: width, "),
        (["codec=griffin_lim"], "codec = 'griffin_lim': only a vocoder learns from a tokenizer"),
        (["tokenizer=none.safetensors"], "none.safetensors"),
    ],
)
def test_recipes_that_do_not_fit_are_refused(
    folder: Path, tmp_path: Path, settings: list[str], says: str
):
    with pytest.raises(InputError if "none" not in says else ValueError, match=says):
        train(recipe(folder, "dmel", *settings), tmp_path)


def test_latents_are_no_tokens_to_decode_by_a_vocoder(folder: Path, tmp_path: Path):
    path = tmp_path / "codec.safetensors"
    save(made("speech", replace(SMALL, quantizer="none")), path)
    with pytest.raises(NoCodesError, match="a decoder of tokens: speech gives latents"):
        train(recipe(folder, "dmel", f"tokenizer={path}"), tmp_path)
