"""Recordings: what earlier runs know them by, what is wrong with them, and what every job says."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from rich.console import Console

from audiotok import Audio
from audiotok.data.cache import SampleCache
from audiotok.data.direct import FileSamples
from audiotok.data.manifest import read_manifest, write_manifest
from audiotok.data.recording import Recording, key_of, stamp_of
from audiotok.evaluation.bench import bench
from audiotok.evaluation.bench.recipe import BenchData, BenchRecipe
from audiotok.training.loop import train
from audiotok.training.recipe import read_recipe
from audiotok.training.resume import data_digest

QUIET = Console(quiet=True)
RATE = 8000


def wav(path: Path, samples: int = 8000, channels: int = 1, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(-9000, 9000, (samples, channels))
    soundfile.write(path, values.astype(np.int16), RATE)
    return path


# -- what earlier runs know recordings by -----------------------------------------------------


@pytest.fixture
def earlier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, with tables of it, as it was when the values below were computed."""
    for i, name in enumerate(("x/a", "x/b", "c")):
        file = tmp_path / "corpus" / f"{name}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(file, np.zeros(100 * (i + 1), np.int16), RATE)
        os.utime(file, ns=(10**18, 10**18))
    (tmp_path / "corpus" / "x" / "a.txt").write_text("one two")
    (tmp_path / "m.tsv").write_text(
        "path\tid\tsplit\ttext\tstart\tlength\tclient_id\n"
        "corpus/x/a.wav\t1\ttrain\t\t0\t3\tme\ncorpus/c.wav\t2\tdev\thi\t\t\t\n"
    )
    (tmp_path / "m.jsonl").write_text(
        '{"audio_filepath": "corpus/c.wav", "duration": 0.30, "text": "h\u00e9", "tags": ["a"], '
        '"lang": null, "speaker": 3, "split": "dev", "path": ""}\n',
        "utf-8",
    )
    (tmp_path / "m.csv").write_text('file_name,transcription,split\ncorpus/x/b.wav,"a, b",train\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("m.tsv", "68205de98268d4152e4f2787b2d47cc14b91265443cf525a5fc8502323d8ed9d"),
        ("m.jsonl", "b5783cc14c3de26b6165a910a392b61cef921a95e7bd6811af03362608cd2097"),
        ("m.csv", "3ce36a7ed941eac44a43729018b7933d3b7603ad7064750f4017664d8c7aac17"),
        ("corpus", "bf3faf2b87e1315b711fbde31b22c7c49bd543c2b86014bd67953d202625b3d2"),
    ],
)
def test_a_training_of_before_is_resumed_on_the_same_data(earlier: Path, name: str, digest: str):
    """The digests are those of 708b87c, which knew whole files in tables and folders only."""
    assert data_digest(read_manifest(earlier / name)) == digest


def test_caches_of_before_are_found(earlier: Path):
    """The keys are those of 708b87c."""
    assert key_of(read_manifest("m.tsv"), 2, 16000) == "27b7847250866c8e"
    assert key_of(read_manifest("./corpus/"), 16000) == "fdbe3012221f3f6e"


def test_a_stretch_has_a_key_and_a_digest_of_its_own(tmp_path: Path):
    wav(tmp_path / "a.wav", channels=2)
    (tmp_path / "m.tsv").write_text(
        "path\tid\tstart\tend\tchannel\n"
        "a.wav\t1\t\t\t\na.wav\t2\t0\t0.5\t\na.wav\t3\t0.1\t0.5\t\na.wav\t4\t0\t0.5\t1\n"
    )
    recordings = read_manifest(tmp_path / "m.tsv")
    assert len({str(stamp_of(each)) for each in recordings}) == 4
    assert len({key_of([each]) for each in recordings}) == 4


# -- what is wrong with recordings, and which jobs say so -------------------------------------


def kaldi(folder: Path, segments: str, entry: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    path = wav(folder.parent / "call.wav", 16000, channels=2)
    (folder / "wav.scp").write_text(f"call {entry or path}\n")
    (folder / "segments").write_text(segments)
    return folder


def samples(recordings: list[Recording], cache: Path) -> object:
    return SampleCache.build(recordings, RATE, cache, console=QUIET)


def direct(recordings: list[Recording], cache: Path) -> object:
    return FileSamples.open(recordings, RATE, cache, console=QUIET)


@pytest.mark.parametrize("job", [samples, direct])
@pytest.mark.parametrize(
    ("segment", "words"),
    [
        ("u call 1.5 9.0", "u: asked for to 9.00 s, but it ends at 2.00 s"),
        ("u call 0.5 1.0 2", "u: has 2 channels, and number 3 is wanted"),
        ("u call 3.0 -1", "u: (asked for from 3.00 s|holds no samples)"),
    ],
)
def test_a_stretch_that_the_file_has_not(
    job: Callable[[list[Recording], Path], object], segment: str, words: str, tmp_path: Path
):
    source = kaldi(tmp_path / "data", f"{segment}\n")
    with pytest.raises(ValueError, match=f"{words}.*that makes 1 of 1 recordings"):
        job(read_manifest(source), tmp_path / "cache")
    recipe = BenchRecipe(BenchData(str(source)), codecs=("noise:10",), metrics=("si_sdr",))
    done = bench(recipe, tmp_path / "out", console=QUIET)
    assert [name for name, _ in done.report.errors] == ["u"]
    with pytest.raises(ValueError, match=f"none of 1 recordings can be read; the first: {words}"):
        write_manifest(source, tmp_path / "m.tsv", console=QUIET)


def test_a_command_runs_by_the_users_word_only_and_once(tmp_path: Path):
    ran = tmp_path / "ran"
    wav(tmp_path / "call.wav", 16000, channels=2)
    command = f"echo >> {ran}; cat {tmp_path / 'call.wav'} |"
    source = kaldi(tmp_path / "data", "l call 0 1 0\nr call 0.5 2 1\n", command)
    store = tmp_path / "store"
    for recording in read_manifest(source, store=store):
        with pytest.raises(ValueError, match="is made by a shell command"):
            recording.load()
    assert not ran.exists()
    recordings = read_manifest(source, store=store, commands=True)
    whole = Audio.load(tmp_path / "call.wav").samples
    left, right = (recording.load().samples for recording in recordings)
    assert left.equal(whole[:1, :8000])
    assert right.equal(whole[1:, 4000:])
    read_manifest(source, store=store, commands=True)
    assert ran.read_text() == "\n"
    failing = kaldi(tmp_path / "data", "l call 0 1 0\n", "echo no >&2; exit 3 |")
    (recording,) = read_manifest(failing, store=store, commands=True)
    with pytest.raises(ValueError, match=r"l: its command failed \(no\)"):
        recording.load()


def test_only_what_is_wanted_is_copied_out_of_an_archive(tmp_path: Path):
    path = tmp_path / "s.tgz"
    with tarfile.open(path, "w:gz") as tar:
        for i in range(5):
            data = wav(tmp_path / f"{i}.wav", 800, seed=i).read_bytes()
            info = tarfile.TarInfo(f"{i}.wav")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    store = tmp_path / "store"
    chosen = read_manifest(path, store=store, choose=lambda every: every[1::2])
    assert [recording.id for recording in chosen] == ["1", "3"]
    assert len(list(store.iterdir())) == 2
    for recording in chosen:
        wanted = Audio.load(tmp_path / f"{recording.id}.wav").samples
        assert recording.load().samples.equal(wanted)
    everything = read_manifest(path, choose=lambda every: every[:1])
    assert everything[0].locator.data is not None  # without a store it is in memory


def test_a_bench_leaves_the_second_of_a_name_out_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    lines = ["path\tid\tstart", *(f"a.wav\t{i}\t0.{i}" for i in range(1, 10)), "a.wav\t9\t0.0"]
    wav(tmp_path / "a.wav")
    (tmp_path / "m.tsv").write_text("\n".join([*lines, "a.wav\t10\t0.05"]))
    data = BenchData(str(tmp_path / "m.tsv"))
    recipe = BenchRecipe(data, codecs=("noise:10",), metrics=("si_sdr",))
    with caplog.at_level("WARNING", "audiotok"):
        done = bench(recipe, tmp_path / "out", console=QUIET)
    assert len(done.results.clips) == 11  # the tenth is the whole file, whose name is its path
    (tmp_path / "m.tsv").write_text("\n".join([*lines[:3], "a.wav\t2\t0.7"]))
    with pytest.raises(ValueError, match="2: another recording before it has this name"):
        bench(recipe, tmp_path / "out", console=QUIET)


@pytest.mark.parametrize("suffix", [".tsv", ".jsonl"])
def test_a_manifest_keeps_what_is_known_or_says_what_it_cannot(
    suffix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    wav(tmp_path / "a.wav")
    row = {"path": "a.wav", "id": "x", "text": "two\nlines", "language": "en", "split": "test"}
    row |= {"duration": 1.0, "emotion": "glad", "tags": ["b", 1], "end": 0.123456789}
    (tmp_path / "in.jsonl").write_text(json.dumps(row))
    out = tmp_path / f"out{suffix}"
    summary = write_manifest(tmp_path / "in.jsonl", out, console=QUIET)
    assert summary.splits == {"test": 1}
    (one,) = read_manifest(out)
    assert (one.id, one.end, one.language, one.split) == ("x", 0.123456789, "en", "test")
    assert (one.column("emotion"), one.column("tags")) == ("glad", '["b", 1]')
    assert one.text == ("two lines" if suffix == ".tsv" else "two\nlines")
    assert ("a .jsonl file keeps them" in caplog.text) == (suffix == ".tsv")


def test_a_source_without_splits_is_split_and_stretches_of_a_file_stay_together(tmp_path: Path):
    lines = ["path\tstart\tend"]
    for i in range(40):
        wav(tmp_path / f"{i}.wav", 800)
        lines += [f"{i}.wav\t0\t0.05", f"{i}.wav\t0.05\t0.1"]
    (tmp_path / "m.tsv").write_text("\n".join(lines))
    parts = [read_manifest(tmp_path / "m.tsv", split=split) for split in ("train", "dev")]
    assert sum(map(len, parts)) == 80
    files = [{recording.locator.path for recording in part} for part in parts]
    assert files[1]
    assert not files[0] & files[1]


def test_what_kaldi_has_and_no_utterance_uses_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    source = kaldi(tmp_path / "data", "b call 0 1\nd call 1 2\n")
    (source / "text").write_text("a one\nb two\nc three\nd four\ne five\n")
    (source / "utt2spk").write_text("b x\nd y\n")
    with (source / "wav.scp").open("a") as scp:
        scp.write("other other.wav\n")
    assert [recording.text for recording in read_manifest(source)] == ["two", "four"]
    assert caplog.messages == [
        f"{source}/wav.scp: 1 recordings have no segment (other)",
        f"{source}/text: 3 entries are of no utterance (a)",
    ]


def test_recordings_of_one_id_are_extracted_to_files_of_their_own(tmp_path: Path):
    for i in range(2):
        with tarfile.open(tmp_path / f"s{i}.tar", "w") as tar:
            tar.add(wav(tmp_path / f"{i}" / "x.wav", 800, seed=i), "x.wav")
    options: dict[str, Any] = {"extract": tmp_path / "audio", "console": QUIET}
    write_manifest(tmp_path / "s{0..1}.tar", tmp_path / "m.tsv", **options)
    for i, recording in enumerate(read_manifest(tmp_path / "m.tsv")):
        wanted = Audio.load(tmp_path / f"{i}" / "x.wav").samples
        assert recording.load().samples.equal(wanted)


def test_training_on_the_segments_of_kaldi(tmp_path: Path):
    source = kaldi(tmp_path / "data", "l call 0 1 0\nr call 0.5 2 1\n")
    (source / "utt2spk").write_text("l one\nr two\n")
    (source / "text").write_text("l left\nr right\n")
    recipe = tmp_path / "r.toml"
    recipe.write_text(
        f"""
codec = "speech"
[data]
manifest = "{source}"
cache = "{tmp_path}/cache"
seconds = 0.2
batch = 2
[loss]
mel = 1.0
[train]
steps = 1
every = 1
clips = 1
[config]
encoder = 16
encoder_blocks = 2
decoder = 16
decoder_blocks = 2
window = 3
heads = 2
latent = 8
codebooks = 2
size = 16
semantic = 4
"""
    )
    assert train(read_recipe(recipe), tmp_path / "run").is_file()


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ("./a.wav ./a.txt ./b.wav ./b.txt", ""),
        ("a.wav b.wav a.txt b.txt", r"a\.txt: stands apart from the other members of sample `a`"),
        ("talk_12.5.wav talk_12.7.wav", r"`talk_12` has 2 audio members"),
        ("x.clean.wav x.noisy.wav x.txt", r"2 audio members \(clean\.wav, noisy\.wav\); say which"),
    ],
)
def test_archives_as_people_make_them(members: str, words: str, tmp_path: Path):
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for i, name in enumerate(members.split()):
            data = wav(tmp_path / "x.wav", 800, seed=i).read_bytes()
            data = data if name.endswith(".wav") else f"text {name[2]}".encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    if words:
        with pytest.raises(ValueError, match=words):
            read_manifest(tmp_path / "s.tar")
    else:
        recordings = read_manifest(tmp_path / "s.tar")
        assert [(each.id, each.text) for each in recordings] == [
            ("./a", "text a"),
            ("./b", "text b"),
        ]
