"""Latents: what a codec quantizes, computed as it encodes, in files, and by a command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commandline import audiotok
from contracts import noise
from talkers import know_logmel, speak

from audiotok import Audio, Tokens, load
from audiotok.codecs import KmeansConfig, fit_units, latents_of, quantize, save_units
from audiotok.data.manifest import read_manifest
from audiotok.tokens import Latents, TokenFileError
from audiotok.tokens.tokenizer import WrongTokensError


@pytest.mark.parametrize("name", ["speech", "dmel_40hz"])
@pytest.mark.parametrize("samples", [1, 4_000, 45_678])
def test_latents_give_the_codes_to_the_bit(name: str, samples: int):
    codec = load(name)
    audio = noise(codec, samples, seed=samples)
    latents = latents_of(codec, audio)
    tokens = codec.encode(audio)
    assert latents.frames == tokens.frames
    assert quantize(codec, latents) == tokens
    longer = Audio(torch.cat([audio.samples, audio.samples], 1), audio.rate)
    if codec.causal:  # what came is not changed by what comes
        known = latents.values[:, : samples // codec.frame_size - 2]
        again = latents_of(codec, longer).values[:, : known.shape[1]]
        assert np.array_equal(known, again)


def test_recordings_of_other_rates_and_channels_are_taken():
    codec = load("speech")
    stereo = Audio(torch.randn(2, 30_000) / 8, 44_100)
    assert quantize(codec, latents_of(codec, stereo)) == codec.encode(stereo)
    array = stereo.samples.mean(0).numpy()
    same = latents_of(codec, array, 44_100)
    assert np.array_equal(same.values, latents_of(codec, stereo).values)
    with pytest.raises(ValueError, match="rate"):
        latents_of(codec, array)


def test_a_file_of_latents_is_read_back(tmp_path: Path):
    codec = load("speech")
    latents = latents_of(codec, noise(codec, 9_000))
    latents.save(tmp_path / "x.tok")
    again = Latents.load(tmp_path / "x.tok")
    assert again == latents
    assert quantize(codec, again) == quantize(codec, latents)


def test_latents_of_other_codecs_and_other_kinds_are_refused(tmp_path: Path):
    codec = load("speech")
    latents = latents_of(codec, noise(codec, 9_000))
    with pytest.raises(WrongTokensError, match="latents of 'speech' 0000000000000000"):
        quantize(codec, replace(latents, fingerprint="0" * 16))
    with pytest.raises(WrongTokensError, match="latents of 'mimi'"):
        quantize(codec, replace(latents, codec="mimi"))
    with pytest.raises(WrongTokensError, match="latents of 'speech', which decodes codes: `quant"):
        codec.decode(latents)
    tokens: Tokens = codec.encode(noise(codec, 4_000))
    tokens.save(tmp_path / "x.tok")
    with pytest.raises(TokenFileError, match=r"x\.tok: holds codes of speech, not latents; `Tok"):
        Latents.load(tmp_path / "x.tok")


@pytest.fixture
def units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of centred units of log-mel features, beside a folder of recordings."""
    pytest.importorskip("sklearn")
    know_logmel(monkeypatch)
    (tmp_path / "talks").mkdir()
    for i in range(4):
        speak(i, 60 + 7 * i, i).audio.save(tmp_path / f"talks/{i}.wav")
    settings = KmeansConfig("logmel", (0,), 12, centred=True, weights="none")
    codec, _ = fit_units(read_manifest(tmp_path / "talks"), settings, cache=tmp_path / "cache")
    save_units(codec, tmp_path / "units.safetensors")
    return tmp_path / "units.safetensors"


def test_vectors_are_units_with_the_means_left_in(units: Path):
    codec: Any = load(units)
    audio = Audio.load(units.parent / "talks/1.wav")
    vectors = latents_of(codec.uncentred(), audio)
    features = codec.teacher.features(audio, layer=0).T.numpy()
    assert np.array_equal(vectors.values, features)
    centred = latents_of(codec, audio)
    assert np.allclose(centred.values, features - features.mean(1, keepdims=True), atol=1e-5)
    assert quantize(codec, centred) == codec.encode(audio)
    with pytest.raises(WrongTokensError):  # the mean would be missing
        quantize(codec, vectors)


def test_a_command_writes_vectors(units: Path):
    out = units.parent / "vectors"
    words = ["units", "vectors", units.parent / "talks", "--codec", units, "-o", out]
    done = audiotok(*words)
    assert (done.code, done.out.strip()) == (0, "vectors of 4 recordings, 0 skipped")
    codec: Any = load(units)
    latents = Latents.load(out / "2.tok")
    wanted = latents_of(codec.uncentred(), units.parent / "talks/2.wav")
    assert np.array_equal(latents.values, wanted.values)
    assert latents.fingerprint == codec.uncentred().fingerprint
    assert audiotok(*words).out.strip() == "vectors of 0 recordings, 4 skipped"
    done = audiotok(*words, "--json", "--force")
    assert [row["frames"] for row in done.json] == [60, 67, 74, 81]
    replace(latents, fingerprint="0" * 16).save(out / "2.tok", force=True)
    done = audiotok(*words)
    assert (done.code, "exists already, with latents of kmeans 0000" in done.err) == (1, True)
    done = audiotok(*words[:3], "--codec", "speech", "-o", out)
    assert (done.code, "codec 'speech', where k-means units are wanted" in done.err) == (1, True)
