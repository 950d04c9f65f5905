"""Vec-Tok's halves: units that forget the voice, and a network that brings the vectors back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commandline import audiotok
from safetensors.torch import save_file
from talkers import PHONES, Spoken, know_logmel, speak

from audiotok import Audio, Tokens, load
from audiotok._platform.errors import InputError
from audiotok.codecs import (
    InverseTraining,
    Kmeans,
    KmeansConfig,
    fit_inverse,
    fit_units,
    latents_of,
    load_inverse,
    measure_inverse,
    save_inverse,
    save_units,
)
from audiotok.codecs.inverse_kmeans import InverseConfig, InverseKmeans, InverseKmeansError
from audiotok.data.manifest import read_manifest
from audiotok.tokens.latents import Latents
from audiotok.tokens.tokenizer import WrongTokensError

pytest.importorskip("sklearn")
VOICES, RECORDINGS, SIZE = 8, 8, 40
SHORT = InverseTraining(48, 2, steps=600, batch=4, frames=40, prompt=40, rate=5e-3)


@pytest.fixture(scope="module", autouse=True)
def _known() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        know_logmel(patch)
        yield


@pytest.fixture(scope="module")
def talks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Spoken]]:
    """A folder of recordings of several voices, and what is said in each."""
    folder = tmp_path_factory.mktemp("talks")
    spoken = [speak(v, 120, i) for v in range(VOICES) for i in range(RECORDINGS)]
    for n, each in enumerate(spoken):
        each.audio.save(folder / f"{n:02d}.wav")
    return folder, spoken


def fitted(folder: Path, *, centred: bool, size: int = SIZE) -> Kmeans:
    settings = KmeansConfig("logmel", (0,), size, centred=centred, weights="none")
    return fit_units(read_manifest(folder), settings, cache=folder / "cache", rounds=5)[0]


@pytest.fixture(scope="module")
def units(talks: tuple[Path, list[Spoken]]) -> Kmeans:
    return fitted(talks[0], centred=True)


@pytest.fixture(scope="module")
def coarse(talks: tuple[Path, list[Spoken]]) -> Kmeans:
    """Few units, which leave much to be recovered."""
    return fitted(talks[0], centred=True, size=8)


@pytest.fixture(scope="module")
def model(talks: tuple[Path, list[Spoken]], coarse: Kmeans) -> InverseKmeans:
    folder = talks[0]
    return fit_inverse(read_manifest(folder), coarse, SHORT, cache=folder / "cache")


# -- units without the means of recordings ---------------------------------------------------------


def phone_bits(codes: list[np.ndarray], spoken: list[Spoken]) -> float:
    """Mutual information of a unit and the phone of its frame."""
    joint = np.zeros((SIZE, PHONES))
    np.add.at(joint, (np.concatenate(codes), np.concatenate([s.phones for s in spoken])), 1)
    joint /= joint.sum()
    apart = joint.sum(1, keepdims=True) * joint.sum(0)
    return float((joint[joint > 0] * np.log2(joint[joint > 0] / apart[joint > 0])).sum())


def voices_right(codes: list[np.ndarray]) -> float:
    """Share of recordings whose voice is told from the counts of units, by those of the others."""
    counts = np.stack([np.bincount(each, minlength=SIZE) for each in codes])
    counts = counts.reshape(VOICES, RECORDINGS, SIZE)
    learnt, tested = np.split(counts, 2, 1)
    profiles = learnt.sum(1) + 1.0
    profiles = np.log(profiles / profiles.sum(1, keepdims=True))
    return float(((tested @ profiles.T).argmax(2) == np.arange(VOICES)[:, None]).mean())


def test_without_their_means_units_forget_the_voice_and_keep_the_phone(
    talks: tuple[Path, list[Spoken]], units: Kmeans
):
    """The check of Vec-Tok's one-line normalisation, on features without weights."""
    folder, spoken = talks
    kept, removed = (
        [codec.encode(each.audio).codes[0] for each in spoken]
        for codec in (fitted(folder, centred=False), units)
    )
    assert voices_right(kept) > 0.5
    assert voices_right(removed) < voices_right(kept) - 0.1
    assert phone_bits(removed, spoken) > 0.95 * phone_bits(kept, spoken)


# -- vectors from units ----------------------------------------------------------------------------


def test_vectors_come_back_nearer_than_centroids_are(
    coarse: Kmeans, model: InverseKmeans, tmp_path: Path
):
    for voice in range(VOICES):  # recordings that it did not learn from
        speak(voice, 120, 99).audio.save(tmp_path / f"{voice}.wav")
    known, cache = read_manifest(tmp_path), tmp_path / "cache"
    errors = measure_inverse(model, known, coarse, cache=cache, prompt=40)
    assert (errors.recordings, errors.frames) == (VOICES, VOICES * 80)
    assert errors.recovered_centred < 0.8 * errors.centroids_centred  # by the units around each
    assert errors.recovered < 0.7 * min(errors.unit_means, errors.centroids) < 1
    assert errors.recovered < 0.5 * errors.unprompted  # the prompt says whose voice it is
    with pytest.raises(InputError, match="no recording is longer than a prompt of 500 frames"):
        measure_inverse(model, known, coarse, cache=cache, prompt=500)


def test_untrained_it_gives_the_means_of_units(talks: tuple[Path, list[Spoken]], units: Kmeans):
    folder = talks[0]
    first = fit_inverse(
        read_manifest(folder), units, replace(SHORT, steps=1, rate=1e-12), cache=folder / "cache"
    )
    codes = torch.arange(SIZE)[None, None]
    wanted = first.means[0].T + first.voice[0][:, None]
    assert torch.allclose(first(codes)[0], wanted, atol=1e-3)
    assert torch.allclose(first.unit_means(codes)[0], first.means[0].T)


def test_a_seed_gives_the_same_network(talks: tuple[Path, list[Spoken]], units: Kmeans):
    folder, few = talks[0], replace(SHORT, steps=3)
    torch.manual_seed(5)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    one, two, other = (
        fit_inverse(
            read_manifest(folder), units, replace(few, seed=seed), cache=folder / "cache"
        ).state_dict()
        for seed in (0, 0, 1)
    )
    assert torch.equal(torch.rand(1), drawn)  # the caller's random state is left alone
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not all(torch.equal(one[key], other[key]) for key in one)


def test_vectors_of_tokens_are_of_exact_length_and_only_of_these_units(
    coarse: Kmeans, model: InverseKmeans
):
    audio = speak(3, 50, 7).audio
    tokens = coarse.encode(audio)
    prompt = latents_of(coarse.uncentred(), speak(3, 60, 8).audio)
    vectors = model.recover(tokens, prompt)
    true = latents_of(coarse.uncentred(), audio)
    assert vectors.values.shape == true.values.shape
    assert (vectors.samples, vectors.fingerprint) == (true.samples, true.fingerprint)

    def error(given: Latents) -> float:
        return float(np.square(given.values - true.values).mean())

    other = model.recover(tokens, latents_of(coarse.uncentred(), speak(5, 60, 8).audio))
    assert error(vectors) < error(other)  # of another voice
    both = Audio(torch.cat([audio.samples, audio.samples.flip(1)]), audio.rate)
    for wrong in (replace(tokens, fingerprint="0" * 16), coarse.encode(both, split=True)):
        with pytest.raises(WrongTokensError, match="this takes 1 of units"):
            model.recover(wrong)
    with pytest.raises(WrongTokensError, match=r"this takes vectors of units .* not centred"):
        model.recover(tokens, latents_of(coarse, audio))


def test_a_file_gives_the_same_vectors(coarse: Kmeans, model: InverseKmeans, tmp_path: Path):
    file = tmp_path / "inverse.safetensors"
    save_inverse(model, file, card={"learnt": 3})
    tokens = coarse.encode(speak(1, 50, 7).audio)
    again = load_inverse(file)
    assert np.array_equal(again.recover(tokens).values, model.recover(tokens).values)
    with pytest.raises(InverseKmeansError, match="no such file"):
        load_inverse(tmp_path / "none.safetensors")
    save_file({"a": torch.ones(1)}, file)
    with pytest.raises(InverseKmeansError, match="no inverse k-means of `audiotok units inverse`"):
        load_inverse(file)
    file.write_bytes(b"x")
    with pytest.raises(InverseKmeansError, match="damaged"):
        load_inverse(file)


def test_several_layers_have_tables_of_their_own():
    model = InverseKmeans(InverseConfig("u", "v", codebooks=2, size=5, features=3, width=8))
    model.means.copy_(torch.randn(2, 5, 3))
    codes = torch.tensor([[[1, 4], [0, 2]]])
    wanted = torch.cat([model.means[0, [1, 4]], model.means[1, [0, 2]]], 1).T
    assert torch.equal(model.unit_means(codes)[0], wanted)


def test_settings_that_cannot_be_are_refused():
    for wrong in ({"steps": 0}, {"frames": 0}, {"prompt": 0}, {"unprompted": 8}):
        with pytest.raises(InputError, match="at least one of each"):
            InverseTraining(**wrong)


def test_recordings_that_are_too_short_are_refused(tmp_path: Path, units: Kmeans):
    speak(0, 30, 0).audio.save(tmp_path / "short.wav")
    with pytest.raises(InputError, match="no recording has the 80 frames of a stretch and its"):
        fit_inverse(read_manifest(tmp_path), units, SHORT, cache=tmp_path / "cache")


def test_commands_train_the_inverse_and_recover_vectors(units: Kmeans, tmp_path: Path):
    file, out = tmp_path / "units.safetensors", tmp_path / "inverse.safetensors"
    save_units(units, file)
    long = tmp_path / "long"
    long.mkdir()
    for i in range(3):
        speak(i, 300, i).audio.save(long / f"{i}.wav")
    (tmp_path / "m.tsv").write_text(
        "path\tsplit\n" + "".join(f"long/{i}.wav\t{'dev' if i else 'train'}\n" for i in range(3))
    )
    words = ["units", "inverse", file, tmp_path / "m.tsv", "-o", out, "--steps", "2"]
    words += ["--width", "16", "--cache", tmp_path / "cache", "--json"]
    done = audiotok(*words)
    assert done.code == 0, done.err
    assert (done.json["learnt"], done.json["recordings"], done.json["frames"]) == (1, 2, 400)
    assert 0 < done.json["recovered"] < 1
    assert audiotok(*words).lines == [f"error {out}: exists already; --force overwrites it"]
    tok, vectors = tmp_path / "x.tok", tmp_path / "vectors"
    units.encode(long / "1.wav").save(tok)
    assert audiotok("units", "vectors", long / "2.wav", "--codec", file, "-o", vectors).code == 0
    prompt = next(vectors.rglob("*.tok")) if vectors.is_dir() else vectors
    made = tmp_path / "recovered.tok"
    words = ["units", "recover", tok, "--inverse", out, "--prompt", prompt, "-o", made]
    done = audiotok(*words)
    assert done.code == 0, done.err
    wanted = load_inverse(out).recover(Tokens.load(tok), Latents.load(prompt))
    assert np.array_equal(Latents.load(made).values, wanted.values)
    assert json.loads(json.dumps(load(file).card))["units"]["recordings"] == 64
