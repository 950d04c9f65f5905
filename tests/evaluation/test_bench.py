"""A bench: what it counts, what it keeps, how it fails, and that going on costs nothing twice."""

from __future__ import annotations

import csv
import json
import math
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pesq
import pytest
import soundfile
import torch
from commandline import COMMAND, audiotok, environment, recording, small
from plugins import CODE
from sizes import UNQUANTIZED, made

from audiotok.codecs.checkpoint import save
from audiotok.evaluation.bench import bench
from audiotok.evaluation.bench.recipe import BenchData, BenchRecipe
from audiotok.evaluation.bench.subjects import Spec
from audiotok.evaluation.bench.work import clip_name
from audiotok.evaluation.metrics.base import MissingModelError
from audiotok.evaluation.metrics.mel import Mel
from audiotok.evaluation.metrics.pesq import Pesq
from audiotok.evaluation.results import Finding, Mean, Results
from audiotok.evaluation.tasks.codes import Codes
from audiotok.tokens.tokens import Tokens


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Three recordings in a folder, of unlike lengths and rates; one is stereo."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    recording(folder / "a.wav", seconds=1.1)
    recording(folder / "b.wav", seconds=0.8, rate=24000)
    recording(folder / "c.flac", seconds=1.5, channels=2)
    return folder


def codec() -> str:
    return str(small())


def recipe(data: Path, **options: Any) -> BenchRecipe:
    given: dict[str, Any] = {"codecs": (codec(), "noise:10"), "metrics": ("mel",)} | options
    return BenchRecipe(BenchData(str(data), limit=given.pop("limit", 0)), **given)


def mean(results: Results, subject: str, metric: str = "mel") -> Mean:
    (found,) = [m for m in results.means if (m.subject, m.metric) == (subject, metric)]
    return found


# ---- names


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("speech", ("codec", "speech", None, "", "")),
        ("speech@4", ("codec", "speech", 4, "", "")),
        ("runs/a@b.safetensors", ("codec", "runs/a@b.safetensors", None, "", "")),
        ("runs/a@b.safetensors@2", ("codec", "runs/a@b.safetensors", 2, "", "")),
        ("opus:6", ("anchor", "", None, "opus", "6")),
        ("folder:made/by:them", ("folder", "", None, "folder", "made/by:them")),
        ("original", ("anchor", "", None, "original", "")),
    ],
)
def test_what_a_name_means(name: str, expected: tuple[str, str, int | None, str, str]):
    spec = Spec.parse(name)
    assert (spec.kind, spec.codec, spec.codebooks, spec.baseline, spec.option) == expected


def test_recordings_of_one_stem_have_files_of_their_own():
    assert clip_name("a/x.wav") != clip_name("b/x.wav")
    assert clip_name("a/x.wav").startswith("x-")
    assert len(clip_name("long" * 100 + ".wav")) < 80


# ---- what comes out


def test_scores_are_those_of_what_is_kept(corpus: Path, tmp_path: Path):
    """By the `pesq` package itself on the files that the bench leaves."""
    out = tmp_path / "out"
    results = bench(recipe(corpus, metrics=("pesq",)), out).results
    for row in results.scores:
        if row.clip.startswith("b"):
            continue  # 24 kHz: the package wants it resampled first
        made, rate = soundfile.read(out / results.audio[row.subject][row.clip])
        wanted, _ = soundfile.read(out / results.audio["original"][row.clip])
        assert rate == 16000
        expected = pesq.pesq(rate, wanted.astype(np.float32), made.astype(np.float32), "wb")
        assert row.value == pytest.approx(expected, abs=1e-3)
    assert mean(results, "original", "pesq").value == pytest.approx(4.644, abs=0.001)


def test_rates_are_those_of_the_bytes_written(corpus: Path, tmp_path: Path):
    results = bench(recipe(corpus, codecs=(codec(), f"{codec()}@1")), tmp_path / "out").results
    of = {subject.name: subject for subject in results.subjects}
    seconds = 1.1 + 0.8 + 1.5
    for name, codebooks in ((codec(), 4), (f"{codec()}@1", 1)):
        files = list((tmp_path / "out/tokens").glob(f"*.{codebooks}.tok"))
        assert len(files) == 3
        written = sum(file.stat().st_size for file in files)
        assert of[name].kbps == pytest.approx(8 * written / seconds / 1000)
        nominal = 50 * codebooks * math.log2(of[name].sizes[0]) / 1000
        assert of[name].nominal_kbps == pytest.approx(nominal)
        assert (of[name].kbps or 0) > nominal, "a container takes room"
    assert of["original"].kbps is None


def test_a_codec_of_latents_is_scored_by_its_sound_alone(corpus: Path, tmp_path: Path):
    name, out = str(tmp_path / "latents.safetensors"), tmp_path / "out"
    save(made(*UNQUANTIZED[0]), name, dtype=torch.float32)
    options = {
        "codecs": (name, codec()),
        "metrics": ("mel", "mel:bands"),
        "tasks": ("codes", "cost"),
    }
    results = bench(recipe(corpus, **options), out).results
    (subject,) = [s for s in results.subjects if s.name == name]
    assert (subject.facts["latents"], subject.sizes, subject.usage) == (16, [], [])
    assert "codebooks" not in subject.facts
    assert subject.nominal_kbps == pytest.approx(50 * 16 * 32 / 1000)
    bands = [mean(results, name, f"mel:band{i}").value or 0 for i in range(1, 11)]
    assert sum(bands) / 10 == pytest.approx(mean(results, name).value, rel=1e-4)
    notes = {f.task: f.note for f in results.findings if f.subject == name and f.value is None}
    assert notes.keys() == {"codes"}
    assert "gives latents of 16 numbers a frame and no codes" in notes["codes"]
    assert "real-time factor of encode" in {f.name for f in results.findings if f.subject == name}
    report = (out / "report.md").read_text("utf-8")
    assert "## Error per mel band" in report
    assert "(mel)" in report.splitlines()[2], "ten parts of a metric do not outweigh another"
    assert (out / "report.html").read_text("utf-8").count("<polyline") == 2


def test_use_of_codebooks(corpus: Path, tmp_path: Path):
    results = bench(recipe(corpus), tmp_path / "out").results
    (subject,) = [s for s in results.subjects if s.kind == "codec"]
    fingerprint = subject.facts["fingerprint"]
    found = [Tokens.load(p) for p in (tmp_path / "out/tokens").glob(f"*.{fingerprint}.tok")]
    codes = np.concatenate([tokens.codes for tokens in found], 1)
    for row, counts in zip(codes, subject.usage, strict=True):
        assert sorted(counts, reverse=True) == counts
        assert sum(counts) == codes.shape[1]
        assert sum(count > 0 for count in counts) == len(set(row.tolist()))


def test_codecs_are_told_apart_in_pairs(corpus: Path, tmp_path: Path):
    """Rows such as the original are no codecs and take no part."""
    codecs = (codec(), f"{codec()}@1", "noise:10", "resampled:8000")
    results = bench(recipe(corpus, codecs=codecs), tmp_path / "out").results
    (pair,) = results.pairs
    assert {pair.a, pair.b} == {codec(), f"{codec()}@1"}
    values = [mean(results, name).value for name in (pair.a, pair.b)]
    assert values[0] is not None
    assert values[1] is not None
    assert pair.difference == pytest.approx(values[0] - values[1])
    assert pair.n == 3


def test_a_decoded_folder_is_scored(corpus: Path, tmp_path: Path):
    """By any program; a file it has not made shows as such."""
    made = tmp_path / "made"
    done = audiotok("encode", corpus, "-o", tmp_path / "tokens", "--codec", codec())
    assert done.code == 0
    done = audiotok(
        "decode", tmp_path / "tokens", "-o", made, "--codec", codec(), "--rate", "original"
    )
    assert done.code == 0
    next(made.glob("b.*")).unlink()
    folder = f"folder:{made}"
    results = bench(recipe(corpus, codecs=(folder, codec())), tmp_path / "out").results
    (reason,) = mean(results, folder).failed
    assert "b.wav" in reason or "b" in reason
    assert mean(results, folder).n == 2
    rows = {(r.subject, r.clip[0]): r.value for r in results.scores}
    for clip in "ac":
        assert rows[folder, clip] == pytest.approx(rows[codec(), clip], abs=1e-3)


def test_original_is_always_a_row(corpus: Path, tmp_path: Path):
    results = bench(recipe(corpus, codecs=("noise:10",)), tmp_path / "out").results
    assert [s.name for s in results.subjects] == ["original", "noise:10"]
    # Not quite 0: the mean of two channels falls between the steps of 16 bits.
    assert mean(results, "original").value == pytest.approx(0, abs=1e-3)


def test_an_exact_copy_has_an_infinite_ratio_and_is_no_failure(corpus: Path, tmp_path: Path):
    out = tmp_path / "out"
    given = recipe(corpus, codecs=("noise:10",), metrics=("si_sdr",))
    results = bench(given, out).results
    whole = mean(results, "original", "si_sdr")
    # The mean of the two channels of the third falls between the steps of 16 bits.
    assert (whole.infinite, whole.n, whole.failed) == ({"inf": 2}, 1, {})
    assert whole.value is not None
    assert 60 < whole.value < 120
    assert mean(results, "noise:10", "si_sdr").value == pytest.approx(10, abs=0.1)
    assert bench(given, out).results.means == results.means, "from the files of the first run"
    with (out / "scores.csv").open(newline="") as lines:
        values = [row["value"] for row in csv.DictReader(lines) if row["subject"] == "original"]
    assert values.count("inf") == 2


def test_a_finding_that_is_no_number_does_not_end_the_bench(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    found = [Finding("codes", "odd", math.nan, note="planted"), Finding("codes", "even", 2.0)]
    monkeypatch.setattr(Codes, "run", lambda self, bench: found)
    given = recipe(corpus, codecs=(codec(),), tasks=("codes",))
    odd, even = bench(given, tmp_path / "out").results.findings
    assert (odd.value, odd.note) == (None, "came out as nan; planted")
    assert even.value == 2.0


def test_limit_draws_and_longest_cuts(corpus: Path, tmp_path: Path):
    data = BenchData(str(corpus), limit=2, longest=0.5)
    found = bench(BenchRecipe(data, ("noise:10",), ("mel",)), tmp_path / "out").results
    assert len(found.clips) == 2
    assert [clip.seconds for clip in found.clips] == [0.5, 0.5]
    again = bench(BenchRecipe(data, ("noise:10",), ("mel",)), tmp_path / "again").results
    assert found.clips == again.clips


def test_several_processes_find_the_same(corpus: Path, tmp_path: Path):
    one = bench(recipe(corpus), tmp_path / "one").results
    two = bench(recipe(corpus), tmp_path / "two", jobs=2).results
    assert one.scores == two.scores
    assert one.means == two.means


# ---- what fails


def test_a_metric_that_crashes_shows(corpus: Path, tmp_path: Path, monkeypatch: Any):
    """On one recording of three; it never becomes a number, and the others count."""
    honest = Pesq.score

    def planted(self: Pesq, output: Any, *rest: Any) -> Any:
        if output.rate == 24000:
            raise ZeroDivisionError("planted")
        return honest(self, output, *rest)

    monkeypatch.setattr(Pesq, "score", planted)
    out = tmp_path / "out"
    results = bench(recipe(corpus, metrics=("pesq", "mel")), out).results
    for subject in results.subjects:
        found = mean(results, subject.name, "pesq")
        assert found.n == 2
        assert found.failed == {"ZeroDivisionError: planted": 1}
        assert mean(results, subject.name, "mel").n == 3
    with (out / "scores.csv").open(encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines) if row["metric"] == "pesq"]
    assert sum("planted" in json.dumps(row) for row in rows) == 3
    assert "planted" in (out / "report.html").read_text("utf-8")
    assert "planted" in (out / "report.md").read_text("utf-8")


def test_a_recording_that_is_missing_shows(corpus: Path, tmp_path: Path):
    manifest = corpus / "list.tsv"
    manifest.write_text("path\tsplit\na.wav\ttest\ngone.wav\ttest\nc.flac\ttrain\n", "utf-8")
    done = audiotok(
        "bench", "--codec", f"{codec()},noise:10", "--data", manifest, "--split", "test",
        "--metrics", "mel,stoi", "-o", tmp_path / "out",
    )  # fmt: skip
    assert done.code == 1
    assert "gone.wav" in done.err
    results = Results.load(tmp_path / "out/results.json")
    for subject in results.subjects:
        found = mean(results, subject.name)
        assert found.n == 1
        (reason,) = found.failed
        assert "gone.wav" in reason
    assert len(results.clips) == 2


def test_weights_that_are_missing_are_not_run(corpus: Path, tmp_path: Path, monkeypatch: Any):
    """Which is not a failure of any codec."""

    def missing(*_: Any) -> Any:
        raise MissingModelError("UTMOS weights are not here: put them there")

    monkeypatch.setattr(Mel, "score", missing)
    results = bench(recipe(corpus, metrics=("mel", "stoi")), tmp_path / "out").results
    mel, stoi = results.metrics
    assert mel.not_run == "UTMOS weights are not here: put them there"
    assert not [row for row in results.scores if row.metric == "mel"]
    assert not stoi.not_run
    monkeypatch.undo()
    results = bench(recipe(corpus, metrics=("mel", "stoi")), tmp_path / "out").results
    assert mean(results, "noise:10").n == 3, "tried again when they are there"
    assert not results.metrics[0].not_run


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"codecs": ("nosuch",)}, "nosuch"),
        ({"metrics": ("pesk",)}, "Did you mean 'pesq'"),
        ({"metrics": ("mel:nosuch",)}, "nosuch"),
        ({"tasks": ("nosuch",)}, "unknown tasks part 'nosuch'"),
        ({"codecs": ()}, "give a codec"),
        ({"metrics": ()}, "give metrics or tasks"),
        ({"codecs": ("a/b", "a:b")}, "share a folder"),
    ],
)
def test_what_there_is_not_is_said_before_the_work(
    corpus: Path, tmp_path: Path, change: dict[str, Any], said: str
):
    with pytest.raises(ValueError, match=said):
        bench(recipe(corpus, **change), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_more_codebooks_than_there_are(corpus: Path, tmp_path: Path):
    with pytest.raises(ValueError, match=r"@9: .*9"):
        bench(recipe(corpus, codecs=(f"{codec()}@9",)), tmp_path / "out")


# ---- going on


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many outputs were scored by mel distance since last asked."""
    honest, count = Mel.score, [0]

    def counting(self: Mel, *rest: Any) -> Any:
        count[0] += 1
        return honest(self, *rest)

    def since() -> int:
        found, count[0] = count[0], 0
        return found

    monkeypatch.setattr(Mel, "score", counting)
    return since


def test_nothing_is_computed_twice(corpus: Path, tmp_path: Path, counted: Callable[[], int]):
    out = tmp_path / "out"
    first = bench(recipe(corpus), out).results
    assert counted() == 9
    again = bench(recipe(corpus), out).results
    assert counted() == 0
    assert (again.scores, again.means, again.clips) == (first.scores, first.means, first.clips)
    more = bench(recipe(corpus, codecs=(codec(), "noise:10", "noise:30")), out).results
    assert counted() == 3, "one more subject costs just that"
    assert mean(more, "noise:30").n == 3
    bench(recipe(corpus, metrics=("mel", "stoi")), out)
    assert counted() == 0, "one more metric costs just that"


def test_other_weights_are_scored_again(corpus: Path, tmp_path: Path, counted: Callable[[], int]):
    from audiotok.codecs.checkpoint import load, save

    out, path = tmp_path / "out", tmp_path / "codec.safetensors"
    model = load(codec())
    save(model, path)
    before = bench(recipe(corpus, codecs=(str(path),)), out).results
    assert counted() == 6
    for parameter in model.decoder.parameters():
        parameter.data.mul_(0.9)
    path.unlink()
    save(model, path)
    from audiotok.codecs import load as loading

    loading._load_torch.cache_clear()
    after = bench(recipe(corpus, codecs=(str(path),)), out).results
    assert counted() == 3, "the original's are kept"
    assert mean(after, str(path)).value != mean(before, str(path)).value


def test_killed_and_run_again(corpus: Path, tmp_path: Path):
    """The results are those of a run that nobody stopped."""
    for i in range(12):
        recording(corpus / f"more{i}.wav", seconds=1.0 + i / 10)
    out = tmp_path / "out"
    command = [
        *COMMAND, "bench", "--codec", f"{codec()},noise:10", "--data", str(corpus),
        "--metrics", "mel,stoi,pesq", "-o",
    ]  # fmt: skip
    process = subprocess.Popen([*command, str(out)], env=environment())
    until = time.monotonic() + 300
    while time.monotonic() < until and len(list(out.glob("clips/*.json"))) < 2:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = len(list(out.glob("clips/*.json")))
    assert 2 <= done < 15, "it was not stopped in the middle"
    assert subprocess.run([*command, str(out)], env=environment()).returncode == 0
    assert subprocess.run([*command, str(tmp_path / "whole")], env=environment()).returncode == 0
    stopped, whole = (Results.load(tmp_path / name / "results.json") for name in ("out", "whole"))
    assert stopped.scores == whole.scores
    assert stopped.means == whole.means
    assert stopped.pairs == whole.pairs
    leftovers = [p for p in out.rglob("*") if p.name.endswith(".part")]
    assert not leftovers


def test_damaged_files_of_an_earlier_run_are_made_again(corpus: Path, tmp_path: Path):
    out = tmp_path / "out"
    first = bench(recipe(corpus), out).results
    clips = sorted(out.glob("clips/*.json"))
    clips[0].write_text("{", "utf-8")
    next(out.glob("tokens/*.tok")).write_bytes(b"junk")
    assert bench(recipe(corpus), out).results.scores == first.scores


# ---- the command


def test_the_command(corpus: Path, tmp_path: Path):
    out = tmp_path / "out"
    done = audiotok(
        "bench", "--codec", f"{codec()}@1", "--codec", codec(), "--data", corpus,
        "--metrics", "mel", "--metrics", "stoi,pesq", "-o", out,
    )  # fmt: skip
    assert done.code == 0, done.err
    for word in ("original", "mel, dB", "stoi", "pesq", "report.html"):
        assert word in done.out
    for name in ("report.html", "report.md", "scores.csv", "means.csv", "results.json"):
        assert (out / name).stat().st_size > 100
    as_json = audiotok(
        "bench", "--codec", codec(), "--data", corpus, "--metrics", "mel", "-o", out, "--json"
    )
    assert {row["subject"] for row in as_json.json} == {"original", codec()}


def test_a_recipe_and_options_over_it(corpus: Path, tmp_path: Path):
    path = tmp_path / "bench.toml"
    path.write_text(
        f'codecs = ["noise:10"]\nmetrics = ["mel"]\n[data]\nmanifest = "{corpus}"\n', "utf-8"
    )
    done = audiotok("bench", path, "--limit", "1", "--metrics", "stoi", "-o", tmp_path / "out")
    assert done.code == 0, done.err
    results = Results.load(tmp_path / "out/results.json")
    assert len(results.clips) == 1
    assert [about.name for about in results.metrics] == ["stoi"]
    path.write_text(f'codec = ["noise:10"]\n[data]\nmanifest = "{corpus}"\n', "utf-8")
    done = audiotok("bench", path, "-o", tmp_path / "out")
    assert done.code == 1
    assert done.lines == [f"error {path}: unknown key 'codec'; did you mean 'codecs'?"]


def test_a_codec_that_fails_on_every_recording_is_a_failure(corpus: Path, tmp_path: Path):
    (tmp_path / "plugin_code.py").write_text(
        CODE + "\n\ndef broken(wave):\n    raise ArithmeticError('no')\n\n\n"
        "def failing():\n    codec = Hold()\n    codec.name = 'failing'\n"
        "    codec._functions['encode'] = broken\n    return codec\n"
    )
    asked = "plugin_code:failing,noise:9"
    done = subprocess.run(
        [*COMMAND, "bench", "--codec", asked, "--data", corpus, "--metrics", "mel", "-o", "out"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stderr
    assert "ArithmeticError: no" in done.stderr + done.stdout
    results = Results.load(tmp_path / "out/results.json")
    assert results.about["command"].startswith(f"audiotok bench --codec {asked} ")
    values = {mean.subject: mean.value for mean in results.means}
    assert values["plugin_code:failing"] is None
    assert values["noise:9"] is not None


def test_wrong_usage(corpus: Path, tmp_path: Path):
    assert audiotok("bench", "--codec", "speech").code == 2
    assert audiotok("bench", "--data", corpus, "--model", "recognizer").code == 2
    done = audiotok("bench", "--data", tmp_path / "nothing", "--codec", "noise", "--metrics", "mel")
    assert done.code == 1
    assert "no such folder, manifest or archive" in done.err


def test_results_that_are_none(tmp_path: Path):
    path = tmp_path / "results.json"
    with pytest.raises(ValueError, match="cannot be read"):
        Results.load(path)
    for text in ("{", "[]", '{"version": 99}', '{"version": 1}'):
        path.write_text(text, "utf-8")
        with pytest.raises(ValueError, match="not results of a bench"):
            Results.load(path)


def test_results_come_back_as_they_were(corpus: Path, tmp_path: Path):
    results = bench(recipe(corpus), tmp_path / "out").results
    assert Results.load(tmp_path / "out/results.json") == results
