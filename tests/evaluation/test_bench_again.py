"""A bench run again in its folder: whatever has changed since is scored again, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pesq
import pytest
import soundfile
from commandline import audiotok, recording, small

from audiotok.audio.audio import Audio
from audiotok.evaluation.bench import bench
from audiotok.evaluation.bench.recipe import BenchData, BenchRecipe
from audiotok.evaluation.metrics.base import Metric, Score
from audiotok.evaluation.metrics.stoi import Stoi
from audiotok.evaluation.metrics.wer import Wer
from audiotok.evaluation.results import Mean, Results
from audiotok.evaluation.tasks.codes import Codes


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    recording(folder / "a.wav", seconds=1.1)
    recording(folder / "b.wav", seconds=1.4)
    return folder


def scored(data: Path, out: Path, **options: Any) -> Results:
    given: dict[str, Any] = {"codecs": (str(small()), "noise:10"), "metrics": ("stoi",)} | options
    longest = given.pop("longest", 60.0)
    return bench(BenchRecipe(BenchData(str(data), longest=longest), **given), out).results


def mean(results: Results, subject: str, metric: str = "stoi") -> Mean:
    (found,) = [m for m in results.means if (m.subject, m.metric) == (subject, metric)]
    return found


def values(results: Results) -> list[tuple[str, str, float | None]]:
    return [(row.subject, row.clip, row.value) for row in results.scores]


def test_a_recording_of_the_same_name_that_is_another(corpus: Path, tmp_path: Path):
    before = scored(corpus, tmp_path / "out")
    soundfile.write(corpus / "a.wav", *soundfile.read(corpus / "b.wav"))
    after = scored(corpus, tmp_path / "out")
    assert values(after) != values(before)
    assert values(after) == values(scored(corpus, tmp_path / "anew"))
    assert [clip.seconds for clip in after.clips] == [1.4, 1.4]


def test_less_of_each_recording(corpus: Path, tmp_path: Path):
    scored(corpus, tmp_path / "out")
    after = scored(corpus, tmp_path / "out", longest=0.9)
    assert values(after) == values(scored(corpus, tmp_path / "anew", longest=0.9))
    assert all(mean(after, s.name).n == 2 for s in after.subjects)


def test_a_folder_that_was_decoded_again(corpus: Path, tmp_path: Path):
    made = tmp_path / "made"
    made.mkdir()
    folder = f"folder:{made}"
    for name in "ab":
        audio = Audio.load(corpus / f"{name}.wav")
        Audio(audio.samples + 0.05, audio.rate).save(made / f"{name}.wav")
    before = scored(corpus, tmp_path / "out", codecs=(folder,), metrics=("mel",))
    Audio.load(corpus / "a.wav").save(made / "a.wav", force=True)
    after = scored(corpus, tmp_path / "out", codecs=(folder,), metrics=("mel",))
    changed = [row.clip[0] for row in after.scores if row not in before.scores]
    assert changed == ["a"]


def test_other_words_in_the_manifest(corpus: Path, tmp_path: Path, monkeypatch: Any):
    """Which matters to those metrics alone that compare words."""
    heard: list[str | None] = []

    def planted(self: Wer, output: Audio, reference: Audio, text: str | None = None) -> Score:
        heard.append(text)
        return Score(0, 1)

    monkeypatch.setattr(Wer, "score", planted)
    monkeypatch.setattr(Wer, "score_many", Metric.score_many)
    manifest = corpus / "list.tsv"
    for text, expected in (("one", 2), ("one", 0), ("two", 2)):
        manifest.write_text(f"path\ttext\na.wav\t{text}\n", "utf-8")
        heard.clear()
        scored(manifest, tmp_path / "out", codecs=("noise:10",), metrics=("wer",))
        assert heard == [text] * expected


def test_a_score_of_another_protocol_is_computed_again(
    corpus: Path, tmp_path: Path, monkeypatch: Any
):
    """As of words that were counted by another normaliser."""
    before = scored(corpus, tmp_path / "out")
    monkeypatch.setattr(Stoi, "score", lambda self, output, reference, text=None: Score(7, 1))
    assert values(scored(corpus, tmp_path / "out")) == values(before)
    monkeypatch.setattr("audiotok.evaluation.metrics.stoi.version", lambda package: f"{package} 99")
    assert {value for _, _, value in values(scored(corpus, tmp_path / "out"))} == {7}


def test_what_a_folder_lacks_at_the_end_is_not_scored(corpus: Path, tmp_path: Path):
    """As pesq says of what both have; and the report tells how many samples that were."""
    made = tmp_path / "made"
    made.mkdir()
    whole = Audio.load(corpus / "b.wav")
    noisy = Audio(whole.samples + 0.01 * whole.samples.roll(7, 1), whole.rate)
    noisy[:-300].save(made / "b.wav", subtype="FLOAT")
    Audio.load(corpus / "a.wav").save(made / "a.wav")
    folder = f"folder:{made}"
    found = scored(corpus, tmp_path / "out", codecs=(folder,), metrics=("pesq", "si_sdr"))
    (row,) = [r for r in found.scores if (r.subject, r.metric, r.clip[0]) == (folder, "pesq", "b")]
    output, rate = soundfile.read(tmp_path / "out" / found.audio[folder][row.clip], dtype="float32")
    assert len(output) == len(whole) - 300
    wanted = whole.samples[0, :-300].numpy()
    assert row.value == pytest.approx(pesq.pesq(rate, wanted, output, "wb"), abs=2e-3)
    (subject,) = [s for s in found.subjects if s.name == folder]
    assert subject.facts["lengths that differ"].startswith("1 of 2, by at most 300 samples")


def test_what_is_asked_for_twice_is_done_once(corpus: Path, tmp_path: Path):
    found = scored(corpus, tmp_path / "out", codecs=("noise:10",) * 2, metrics=("mel",) * 2)
    assert [m.name for m in found.metrics] == ["mel"]
    assert [s.name for s in found.subjects] == ["original", "noise:10"]


def test_a_task_that_crashes_costs_nothing_else(corpus: Path, tmp_path: Path, monkeypatch: Any):
    def planted(*_: Any) -> Any:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(Codes, "run", planted)
    found = scored(corpus, tmp_path / "out", tasks=("codes", "idempotence"))
    failed = [f for f in found.findings if f.value is None]
    assert [(f.task, f.note) for f in failed] == [("codes", "failed: ZeroDivisionError: planted")]
    assert any(f.task == "idempotence" for f in found.findings)
    assert "planted" in (tmp_path / "out/report.md").read_text("utf-8")
    assert mean(found, "noise:10").n == 2


def test_a_task_sees_that_recordings_have_changed(corpus: Path, tmp_path: Path):
    def entropy(results: Results) -> list[float | None]:
        return [f.value for f in results.findings]

    before = scored(corpus, tmp_path / "out", metrics=(), tasks=("codes",))
    soundfile.write(corpus / "a.wav", *soundfile.read(corpus / "b.wav"))
    after = scored(corpus, tmp_path / "out", metrics=(), tasks=("codes",))
    assert entropy(after) != entropy(before)
    anew = scored(corpus, tmp_path / "anew", metrics=(), tasks=("codes",))
    assert entropy(after) == entropy(anew)


def test_what_cannot_be_read_costs_tasks_nothing(corpus: Path, tmp_path: Path):
    """And is told once on the command line, not for every row and metric."""
    whole = scored(corpus, tmp_path / "whole", metrics=(), tasks=("codes",))
    (corpus / "c.wav").write_text("not audio", "utf-8")
    done = audiotok(
        "bench", "--codec", f"{small()},noise:10", "--data", corpus, "--metrics", "stoi,mel",
        "--tasks", "codes", "-o", tmp_path / "out",
    )  # fmt: skip
    assert done.code == 1
    assert (done.out + done.err).count("this is text, not audio") == 1
    found = Results.load(tmp_path / "out/results.json")
    assert found.findings == whole.findings
    assert mean(found, "noise:10").failed
    audio = Audio.load(corpus / "b.wav")
    (corpus / "c.wav").unlink()
    audio.save(corpus / "c.wav")
    again = scored(corpus, tmp_path / "out")
    assert mean(again, "noise:10").n == 3
