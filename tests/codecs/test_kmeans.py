"""K-means units: fitted here, imported, loaded again, and used as any codec is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commandline import audiotok
from contracts import noise
from safetensors.torch import save_file

from audiotok import Audio, Layout, Tokens, load
from audiotok._platform import registry
from audiotok._platform.errors import InputError, MissingLibraryError
from audiotok.audio import _torchaudio
from audiotok.codecs import centroids
from audiotok.codecs.catalogue import CheckpointError
from audiotok.codecs.centroids import (
    draw_recordings,
    fit_units,
    import_units,
    read_centroids,
    save_units,
)
from audiotok.codecs.checkpoint import describe
from audiotok.codecs.export.folder import export
from audiotok.codecs.models.kmeans import Kmeans, KmeansConfig
from audiotok.corpus import Corpus
from audiotok.data.features.base import Choice, FeatureFrames, Teacher, TeacherError
from audiotok.data.features.hubert import Hubert
from audiotok.data.manifest import read_manifest
from audiotok.lm import UnitTokenizer
from audiotok.nn.clusters import nearest
from audiotok.runtime.exported import ExportError
from audiotok.runtime.windows import loss
from audiotok.tokens.latents import Latents
from audiotok.tokens.tokenizer import NoDecoderError

NETWORK: dict[str, Any] = {
    "extractor_mode": "group_norm",
    "extractor_conv_layer_config": [
        (8, kernel, stride)
        for kernel, stride in zip((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2), strict=True)
    ],
    "extractor_conv_bias": False,
    "encoder_embed_dim": 64,
    "encoder_pos_conv_kernel": 8,
    "encoder_pos_conv_groups": 4,
    "encoder_num_layers": 2,
    "encoder_num_heads": 1,
    "encoder_ff_interm_features": 48,
    "encoder_layer_norm_first": False,
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random HuBERT, as torchaudio saves one."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "tiny.pth"
    torch.save(Hubert(NETWORK, normalise=False).network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def talks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of recordings of several lengths."""
    folder = tmp_path_factory.mktemp("talks")
    for i in range(12):
        audio = noise(load("dmel_40hz"), 12_000 + 2_345 * i, seed=i)
        audio.save(folder / f"{i:02d}.wav")
    return folder


def config(weights: Path, **fields: Any) -> KmeansConfig:
    return KmeansConfig(
        teacher="hubert", weights=str(weights), **{"layers": (2,), "size": 20, **fields}
    )


@pytest.fixture(scope="module")
def fitted(weights: Path, talks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fitted file of two layers that names the extractor's weights."""
    pytest.importorskip("sklearn")
    folder = tmp_path_factory.mktemp("fitted")
    codec, _ = fit_units(
        read_manifest(talks), config(weights, layers=(1, 2)), cache=folder, rounds=2
    )
    save_units(codec, folder / "units.safetensors")
    return folder / "units.safetensors"


# -- fitting --------------------------------------------------------------------------------------


def test_codes_are_scikit_learns_of_the_features(weights: Path, talks: Path, tmp_path: Path):
    cluster = pytest.importorskip("sklearn.cluster")
    codec, fits = fit_units(read_manifest(talks), config(weights), cache=tmp_path, rounds=3)
    theirs = cluster.KMeans(20, init=codec.centroids[0].numpy(), n_init=1, max_iter=1)
    theirs.fit(codec.centroids[0].numpy())
    theirs.cluster_centers_ = codec.centroids[0].numpy()
    audio = noise(codec, 100_000, seed=3)
    features = Hubert.load(weights).features(audio, layer=2)
    codes = codec.encode(audio).codes
    assert np.array_equal(codes[0, : len(features)], theirs.predict(features.numpy()))
    assert (codes[0, len(features) :] == codes[0, len(features) - 1]).all()
    assert fits[0].frames == sum(
        len(Hubert.load(weights).features(r.load(), layer=2)) for r in read_manifest(talks)
    )
    assert 0 < fits[0].explained < 1
    assert 1 < fits[0].perplexity <= fits[0].used <= 20


def test_a_seed_gives_the_same_units_and_the_cache_spares_the_work(
    weights: Path, talks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("sklearn")
    recordings = read_manifest(talks)
    first, _ = fit_units(recordings, config(weights), cache=tmp_path, rounds=2, seed=1)
    monkeypatch.setattr(Hubert, "states", None)  # features are not computed again
    again, _ = fit_units(recordings, config(weights), cache=tmp_path, rounds=2, seed=1)
    other, _ = fit_units(recordings, config(weights), cache=tmp_path, rounds=2, seed=2)
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_the_fit_is_nearly_that_of_all_data_at_once(weights: Path, talks: Path, tmp_path: Path):
    cluster = pytest.importorskip("sklearn.cluster")
    recordings = read_manifest(talks)
    _, fits = fit_units(recordings, config(weights), cache=tmp_path, rounds=10)
    teacher = Hubert.load(weights)
    frames = torch.cat([teacher.features(r.load(), layer=2) for r in recordings]).half().float()
    whole = cluster.KMeans(20, n_init=3, random_state=0).fit(frames.numpy())
    assert fits[0].inertia < 1.1 * whole.inertia_ / len(frames)


@pytest.mark.parametrize("bundle", [False, True], ids=["elsewhere", "bundled"])
def test_a_file_is_loaded_with_equal_codes(
    weights: Path, talks: Path, tmp_path: Path, bundle: bool
):
    pytest.importorskip("sklearn")
    settings = config(weights, layers=(1, "mean"), centred=True, mean_of=2)
    codec, _ = fit_units(read_manifest(talks), settings, cache=tmp_path, rounds=1, bundle=bundle)
    save_units(codec, path := tmp_path / "units.safetensors")
    again = load(path)
    audio = noise(codec, 50_000)
    assert again.encode(audio) == codec.encode(audio)
    assert again.fingerprint == codec.fingerprint
    assert (codec.frame_rate, codec.codebooks, codec.sizes) == (Fraction(25), 2, (20, 20))
    assert again.card["units"]["recordings"] == 12
    facts = describe(path)
    assert facts["entries"] == 2 * 20 * 64
    assert facts["parameters"] == sum(p.numel() for p in Hubert.load(weights).parameters())
    size = path.stat().st_size / (2 * facts["parameters"])
    assert (1 < size < 1.3) if bundle else size < 0.4


def test_the_mean_of_a_recording_is_taken_off(weights: Path):
    """What the mean of a recording adds to every feature leaves the codes as they are."""
    plain = Kmeans(config(weights, layers=(2,)))
    centred = Kmeans(config(weights, layers=(2,), centred=True))
    audio = noise(plain, 30_000)
    latent = plain.latents(audio.samples[None])
    assert torch.allclose(
        centred.latents(audio.samples[None]), latent - latent.mean(2, keepdim=True), atol=1e-6
    )


def test_what_codes_depend_on_is_in_the_fingerprint(weights: Path, tmp_path: Path):
    torch.manual_seed(5)
    torch.save(Hubert(NETWORK, normalise=False).network.state_dict(), tmp_path / "other.pth")
    base = config(weights)
    others = [
        replace(base, layers=(1,)),
        replace(base, centred=True),
        replace(base, mean_of=2),
        replace(base, options={"normalise": True}),
        replace(base, weights=str(tmp_path / "other.pth")),
    ]
    codecs = [Kmeans(one) for one in (base, *others)]
    for codec in codecs:
        codec.set_centroids(codecs[0].centroids)
    assert len({codec.fingerprint for codec in codecs}) == 6


def test_components_that_are_left_out_do_not_change_the_nearest(
    weights: Path, talks: Path, tmp_path: Path
):
    """What all centroids lack counts alike for each of them, so codes need no projection."""
    pytest.importorskip("sklearn")
    recordings, teacher = read_manifest(talks), Hubert.load(weights)
    codec, fits = fit_units(recordings, config(weights), cache=tmp_path, rounds=2, drop=5)
    whole, _ = fit_units(recordings, config(weights), cache=tmp_path, rounds=2)
    assert codec.card["units"]["dropped"] == 5
    assert whole.card["units"]["dropped"] == teacher.positional == 0
    frames = torch.cat([teacher.features(r.load(), layer=2) for r in recordings]).half().float()
    largest = torch.linalg.svd(frames - frames.mean(0), full_matrices=False)[2][:5].T
    assert (codec.centroids[0] @ largest).abs().max() < 1e-3
    assert (whole.centroids[0] @ largest).abs().max() > 0.1
    left = frames - frames @ largest @ largest.T
    assert torch.equal(nearest(left, codec.centroids[0]), nearest(frames, codec.centroids[0]))
    assert fits[0].inertia == pytest.approx(
        (left - codec.centroids[0][nearest(left, codec.centroids[0])])
        .square()
        .sum(1)
        .mean()
        .item(),
        rel=1e-3,
    )
    with pytest.raises(InputError, match="64 of 64 components left out: some must stay"):
        fit_units(recordings, config(weights), cache=tmp_path, drop=64)


def test_recordings_are_drawn_by_hours_and_number(talks: Path):
    known = read_manifest(talks)
    assert draw_recordings(known, seed=3) != known
    assert sorted(r.id for r in draw_recordings(known, seed=3)) == sorted(r.id for r in known)
    assert draw_recordings(known, most=5, seed=3) == draw_recordings(known, seed=3)[:5]
    some = draw_recordings(known, hours=5 / 3600, seed=3)
    seconds = [len(r.load()) / 16000 for r in some]
    assert sum(seconds[:-1]) < 5 <= sum(seconds)


def test_the_last_frames_of_a_pass_may_be_few(
    weights: Path, talks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("sklearn")
    monkeypatch.setattr(centroids, "BATCH", 100)
    monkeypatch.setattr(centroids, "POOL", 1)
    recordings = read_manifest(talks)  # 0.7 to 2.4 s each, 800 frames in a pool
    _, fits = fit_units(recordings, config(weights, size=100), cache=tmp_path, rounds=10)
    assert fits[0].used > 80


def test_too_little_is_refused(weights: Path, talks: Path, tmp_path: Path):
    pytest.importorskip("sklearn")
    recordings = read_manifest(talks)
    with pytest.raises(InputError, match=r"frames are too few for 5000 centroids"):
        fit_units(recordings, config(weights, size=5000), cache=tmp_path)
    with pytest.raises(InputError, match="no recordings to fit units to"):
        fit_units([], config(weights), cache=tmp_path)
    with pytest.raises(InputError, match="'hubert' has hidden states 0 to 2"):
        fit_units(recordings, config(weights, layers=(3,)), cache=tmp_path)
    with pytest.raises(InputError, match=r"layers \[1, 1\]: give one or more, each once"):
        config(weights, layers=(1, 1))
    with pytest.raises(InputError, match="means of 0 features"):
        config(weights, mean_of=0)
    with pytest.raises(InputError, match="no weights of teacher 'hubert'"):
        fit_units(recordings, KmeansConfig(teacher="hubert"), cache=tmp_path)


# -- loading --------------------------------------------------------------------------------------


def test_missing_or_other_weights_are_one_clear_line(
    weights: Path, fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    content = weights.read_bytes()
    moved = weights.rename(weights.with_name("away.pth"))
    try:
        with pytest.raises(CheckpointError) as missing:
            load(fitted)
        said = str(missing.value)
        assert said.startswith(f"{fitted}: the weights of teacher 'hubert' are needed: {weights}: ")
        way = "set AUDIOTOK_TEACHERS to a folder that holds the right ones under the name tiny.pth"
        assert said.endswith(way)
        assert "\n" not in said
        (tmp_path / "tiny.pth").write_bytes(content)
        monkeypatch.setenv("AUDIOTOK_TEACHERS", str(tmp_path))
        assert load(fitted).codebooks == 2
        torch.manual_seed(7)
        torch.save(Hubert(NETWORK, normalise=False).network.state_dict(), tmp_path / "tiny.pth")
        with pytest.raises(CheckpointError, match=r"weights \w{16} of teacher 'hubert', where the"):
            load(fitted)
    finally:
        moved.rename(weights)


class Loudness(Teacher):
    """An extractor of another package, which gives features alone: loudness in two ways."""

    name, width, layers, sample_rate, frame_rate = "loudness", 2, 0, 8000, Fraction(100)

    @classmethod
    def load(cls, weights: str | Path) -> Loudness:
        return cls()

    def features(self, audio: Audio, *, layer: Choice, text: str | None = None) -> FeatureFrames:
        wave = audio.samples[0]
        frames = torch.nn.functional.pad(wave, (0, -len(wave) % 80)).view(-1, 80)
        return torch.stack([frames.abs().mean(1), frames.square().mean(1)], 1)


def test_an_extractor_from_outside_serves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    known = registry.find
    monkeypatch.setattr(
        "audiotok.codecs.models.kmeans.find",
        lambda family, name: Loudness if name == "loudness" else known(family, name),
    )
    np.save(tmp_path / "c.npy", np.linspace([0.0, 0.0], [0.4, 0.2], 6, dtype=np.float32))
    settings = KmeansConfig(teacher="loudness", weights="none", layers=(0,))
    codec = import_units([tmp_path / "c.npy"], settings)
    assert (codec.sample_rate, codec.frame_size) == (8000, 80)
    ramp = Audio(torch.linspace(0, 0.4, 8000)[None], 8000)
    assert codec.encode(ramp).codes.max() == 5
    assert (np.diff(codec.encode(ramp).codes) >= 0).all()
    save_units(codec, tmp_path / "c.safetensors")
    assert load(tmp_path / "c.safetensors").encode(ramp) == codec.encode(ramp)
    with pytest.raises(InputError, match="cannot be built without weights: no bundle"):
        import_units([tmp_path / "c.npy"], settings, bundle=True)


def test_an_extractor_of_text_is_refused():
    class Reads(Loudness):
        reads_text = True

    with pytest.raises(InputError, match="reads text: units are of sound"):
        Kmeans(KmeansConfig(teacher="text", layers=(0,)), teacher=Reads())


# -- centroids of other programs ------------------------------------------------------------------


def test_centroids_are_read_from_arrays_and_never_from_pickles(weights: Path, tmp_path: Path):
    array = np.random.default_rng(0).normal(size=(7, 64)).astype(np.float64)
    np.save(tmp_path / "c.npy", array)
    save_file({"any": torch.from_numpy(array).float()}, tmp_path / "c.safetensors")
    for name in ("c.npy", "c.safetensors"):
        codec = import_units([tmp_path / name], config(weights, layers=(1,)))
        assert torch.equal(codec.centroids[0], torch.from_numpy(array).float())
        assert codec.sizes == (7,)
    (tmp_path / "km.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(
        CheckpointError, match=r"km\.bin: a pickle, which may run code, is not read"
    ):
        read_centroids(tmp_path / "km.bin")
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], object), allow_pickle=True)
    np.save(tmp_path / "flat.npy", array.ravel())
    np.save(tmp_path / "bad.npy", array * np.nan)
    save_file({"a": torch.ones(2, 2), "b": torch.ones(1)}, tmp_path / "two.safetensors")
    for name, says in (
        ("objects.npy", "no centroids that can be read"),
        ("flat.npy", r"arrays of shapes \[\[448\]\], where one \[k d\]"),
        ("bad.npy", "NaN or infinite"),
        ("two.safetensors", r"arrays of shapes \[\[2, 2\], \[1\]\]"),
        ("none.npy", "no centroids that can be read"),
        ("km.txt", "neither .npy nor .safetensors"),
    ):
        with pytest.raises(CheckpointError, match=says):
            read_centroids(tmp_path / name)
    np.save(tmp_path / "narrow.npy", array[:, :5])
    np.save(tmp_path / "few.npy", array[:3])
    with pytest.raises(CheckpointError, match=r"centroids of 5 numbers, where features .* have 64"):
        import_units([tmp_path / "narrow.npy"], config(weights, layers=(1,)))
    with pytest.raises(CheckpointError, match=r"layers of \[3, 7\] centroids"):
        import_units([tmp_path / "c.npy", tmp_path / "few.npy"], config(weights, layers=(1, 2)))
    with pytest.raises(InputError, match="1 files of centroids for 2 layers"):
        import_units([tmp_path / "c.npy"], config(weights, layers=(1, 2)))


# -- commands -------------------------------------------------------------------------------------


def test_units_are_fitted_and_imported_by_commands(weights: Path, talks: Path, tmp_path: Path):
    pytest.importorskip("sklearn")
    out = tmp_path / "units.safetensors"
    words = ["units", "fit", talks, "--teacher", "hubert", "--weights", weights, "-o", out]
    words += ["--layer", "1", "--layer", "mean", "--size", "10", "--rounds", "1", "--split", ""]
    words += ["--option", "normalise=true", "--cache", tmp_path / "cache", "--recordings", "6"]
    done = audiotok(*words, "--json")
    assert done.code == 0, done.err
    assert (done.json["recordings"], len(done.json["layers"])) == (6, 2)
    assert load(out).config.options == {"normalise": True}
    again = audiotok(*words)
    assert (again.code, again.lines) == (1, [f"error {out}: exists already; --force overwrites it"])
    done = audiotok(*words, "--force")
    assert "layer mean: 10 of 10 units used" in done.out.replace("\n", " ")
    codec = load(out)
    assert isinstance(codec, Kmeans)
    np.save(tmp_path / "c.npy", codec.centroids[0].numpy())
    words = ["units", "import", tmp_path / "c.npy", "--weights", weights, "--layer", "1"]
    done = audiotok(
        *words, "-o", tmp_path / "c.safetensors", "--option", "normalise=true", "--json"
    )
    assert (done.code, done.json["sizes"]) == (0, [10])
    audio = noise(load(out), 20_000)
    imported = load(tmp_path / "c.safetensors").encode(audio)
    assert np.array_equal(imported.codes, load(out).encode(audio).codes[:1])
    for bad in (("--layer", "x"), ("--option", "x"), ("-o", tmp_path / "x.pt")):
        assert audiotok(*words, "-o", tmp_path / "y.safetensors", *bad).code == 2


def test_a_fitted_file_is_a_codec_like_any(fitted: Path, talks: Path, tmp_path: Path):
    codec = load(fitted)
    assert audiotok("encode", talks, "--codec", fitted, "-o", tmp_path / "tokens").code == 0
    tokens = Tokens.load(tmp_path / "tokens/03.tok")
    assert tokens == codec.encode(Audio.load(talks / "03.wav"))
    assert tokens.semantic is not None
    corpus = tmp_path / "corpus"
    done = audiotok("corpus", "build", talks, "-o", corpus, "--codec", fitted, "-j", "1")
    assert done.code == 0, done.err
    assert Corpus(corpus).fingerprint == codec.fingerprint
    (tmp_path / "lm.toml").write_text(
        f'[data]\ncorpus = "{corpus}"\ncodec = "{fitted}"\nframes = 40\nbatch = 2\ntrain = ""\n'
        'validate = ""\n[layout]\ncodebooks = 1\nruns = "durations"\n[model]\nwidth = 32\n'
        "depth = 1\nheads = 2\nentries = true\n[train]\nsteps = 2\nevery = 1\n"
    )
    done = audiotok("lm", "train", tmp_path / "lm.toml", "-o", tmp_path / "run")
    assert done.code == 0, done.err
    with pytest.raises(NoDecoderError):
        codec.decode(tokens)
    bench = ("bench", "--codec", f"speech@1,{fitted}", "--data", talks, "--limit", "3")
    done = audiotok(*bench, "--tasks", "codes", "--metrics", "mel", "-o", tmp_path / "bench")
    results = json.loads((tmp_path / "bench/results.json").read_text())
    rows = [row for row in results["scores"] if row["subject"] == str(fitted)]
    assert {row["error"] for row in rows} == {"no decoder to score"}
    assert any(f["subject"] == str(fitted) and f["value"] for f in results["findings"])
    assert {each["name"]: each["kbps"] for each in results["subjects"]}[str(fitted)] > 0


def test_units_with_durations_are_lossless(fitted: Path):
    tokens = load(fitted).encode(noise(load(fitted), 60_000)).first(1)
    codes = np.repeat(tokens.codes, 3, 1)
    samples = codes.shape[1] * tokens.frame_size
    tokens = replace(tokens, codes=codes, samples=samples, original_samples=samples)
    layout = Layout.of(tokens, runs="durations", longest=100)
    ids = layout.encode(tokens)
    assert len(ids) < tokens.frames
    assert np.array_equal(layout.decode(ids), tokens.codes)


def test_units_are_not_exported(fitted: Path, tmp_path: Path):
    pytest.importorskip("onnxscript")
    with pytest.raises(ExportError, match="kmeans hears windows of a recording, which ONNX"):
        export(load(fitted), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_windows_say_what_they_cost(fitted: Path):
    codec = load(fitted)
    lost = loss(codec, noise(codec, 60_000), 0.5)
    assert lost.snr is None
    assert 0 < lost.codes < 1


def test_several_layers_are_read_in_one_pass(weights: Path):
    passes = []

    class Counting(Hubert):
        def states(self, wave: Any) -> Any:
            passes.append(1)
            return super().states(wave)

    _torchaudio.load()
    teacher = Counting.load(weights)
    both = teacher.chosen(noise(load("dmel_40hz"), 9_000).samples, [2, "mean", 0])
    assert passes == [1]
    alone = [teacher.features(noise(load("dmel_40hz"), 9_000), layer=k) for k in (2, "mean", 0)]
    assert torch.equal(both[:, 0], torch.stack(alone))


def test_a_config_of_the_wrong_teacher_is_refused(weights: Path, tmp_path: Path):
    np.save(tmp_path / "c.npy", np.zeros((3, 64), np.float32))
    with pytest.raises(TeacherError, match="not a wavlm checkpoint"):
        import_units([tmp_path / "c.npy"], replace(config(weights), teacher="wavlm"))


def test_the_weights_are_judged_before_scikit_learn_is_missed(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(TeacherError, match="nowhere"):
        fit_units([], config(tmp_path / "nowhere"), cache=tmp_path)
    with pytest.raises(MissingLibraryError, match="scikit-learn"):
        fit_units([], config(weights), cache=tmp_path)


@pytest.mark.slow
def test_vec_toks_halves_are_made_by_one_script(weights: Path, tmp_path: Path):
    pytest.importorskip("sklearn")
    pytest.importorskip("tokenizers")
    root = Path(__file__).parents[2]
    rows = ["path\tsplit"]
    for i in range(6):
        noise(load("dmel_40hz"), 90_000 + 999 * i, seed=i).save(tmp_path / f"{i}.wav")
        rows.append(f"{i}.wav\t{'dev' if i == 5 else 'train'}")
    (tmp_path / "m.tsv").write_text("\n".join(rows) + "\n")
    out = tmp_path / "out"
    few = {"LAYER": "2", "HOURS": "0", "UNITS": "12", "PIECES": "40", "STEPS": "3", "WIDTH": "16"}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [root / "egs/vec_tok.sh", tmp_path / "m.tsv", weights, tmp_path / "5.wav", out],
        env={**os.environ, "PATH": path, "PYTHONPATH": str(root), "TEACHER": "hubert", **few},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    codec = load(out / "units.safetensors")
    tokenizer = UnitTokenizer(codec, Layout.load(out / "layout.json"))
    units = tokenizer.units(tmp_path / "5.wav")
    assert np.array_equal(tokenizer.decode(np.load(out / "ids.npy")), units)
    recovered, true = (Latents.load(out / f"{name}.tok") for name in ("recovered", "voice"))
    assert recovered.values.shape == true.values.shape
