"""The files of a report: every number in its place, every missing one with its reason."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import sys
import zlib
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from benched import HOSTILE, benched
from commandline import audiotok

from audiotok._platform.console import cell
from audiotok.audio.audio import Audio
from audiotok.evaluation.report import clips as embedding
from audiotok.evaluation.report import write_report
from audiotok.evaluation.report.base import View
from audiotok.evaluation.report.image import HEAT, LEVELS, palette, png
from audiotok.evaluation.report.markdown import markdown
from audiotok.evaluation.report.matrix import matrix, rest
from audiotok.evaluation.report.usage import strips
from audiotok.evaluation.results import Clip, Finding, Mean, MetricInfo, Results, ScoreRow, Subject


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report")
    write_report(benched(path), path, clips=4, title="A <bench>")
    return path


@pytest.fixture(scope="module")
def html(folder: Path) -> str:
    return (folder / "report.html").read_text("utf-8")


def _csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


class Cells(HTMLParser):
    """The rows of the main table as texts, and every element with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str | None, str] = {}
        self._inside: list[str] = []
        self._script: str | None = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.elements.append((tag, found))
        if tag == "table":
            self._inside = ["main"] if found.get("id") == "main" else []
        if tag == "script":
            self._script = found.get("id")
        if self._inside and tag == "tr":
            self.rows.append([])
        if self._inside and tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "table":
            self._inside = []

    def handle_data(self, data: str) -> None:
        if self._inside and self.rows and self.rows[-1]:
            self.rows[-1][-1] += f" {data.strip()}"
        if self.cdata_elem == "script":
            self.scripts[self._script] = self.scripts.get(self._script, "") + data


def test_every_subject_recording_and_metric_has_its_line(folder: Path):
    rows = _csv(folder / "scores.csv")
    assert len(rows) == 7 * 12 * 4
    keys = {(row["subject"], row["recording"], row["metric"]) for row in rows}
    assert len(keys) == len(rows)
    for row in rows:
        assert bool(row["value"]) != bool(row["error"])
    found = {(r["subject"], r["recording"], r["metric"]): r for r in rows}
    assert float(found["speech@2", "clip-3", "pesq"]["value"]) == pytest.approx(3.03)
    assert found["speech@1", "clip-2", "pesq"]["error"] == "PESQ: <no> utterance"
    assert found["opus:6", "clip-2", "utmos"]["error"] == "not run: weights are not here <b>"


def test_means_say_how_many_remain_and_why(folder: Path):
    found = {(r["subject"], r["metric"]): r for r in _csv(folder / "means.csv")}
    assert len(found) == 7 * 4
    row = found["speech@1", "pesq"]
    assert (row["n"], row["failed"], row["reasons"]) == ("11", "1", "PESQ: <no> utterance (1)")
    row = found["noise", "stoi"]
    assert (row["mean"], row["n"], row["failed"]) == ("", "0", "12")
    assert found["noise", "utmos"]["reasons"] == "not run: weights are not here <b>"


NASTY = "=1+1\x1b]0;owned\x07\u202e \x85"


def test_what_people_open_holds_no_formula_and_nothing_a_terminal_obeys(tmp_path: Path):
    results = benched(tmp_path)
    changed = json.loads(json.dumps(asdict(results)).replace("talk/1", "@talk/1\\u001b[31m"))
    clips = [Clip(**row) for row in changed["clips"]]
    scores = [ScoreRow(**row) for row in changed["scores"]]
    subjects = [replace(subject, facts={"said": NASTY}) for subject in results.subjects]
    about = {**results.about, "command": NASTY, "title": f"+{NASTY}"}
    first = clips[0].name
    scores = [replace(row, clip=NASTY) if row.clip == first else row for row in scores]
    scores[1] = replace(scores[1], total=None, error=f"-{NASTY}")
    clips[0] = replace(clips[0], name=NASTY, text=NASTY)
    means = [replace(mean, failed={NASTY: 1}) for mean in results.means]
    whole = replace(
        results, about=about, clips=clips, scores=scores, subjects=subjects, means=means, audio={}
    )
    write_report(whole, tmp_path, clips=2)
    for name in ("report.md", "report.html", "scores.csv", "means.csv"):
        text = (tmp_path / name).read_text("utf-8")
        assert not set(text) & set("\x1b\x07\u202e\x85\x00"), name
    for name in ("scores.csv", "means.csv"):
        for row in _csv(tmp_path / name):
            for value in row.values():
                assert value[:1] not in "=+@" or not value
                assert not value.startswith("-") or float(value) < 0
    assert any(
        row["recording"].startswith("'=1+1\\x1b]0;owned") for row in _csv(tmp_path / "scores.csv")
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        (" +1", "'+1"),
        ("-5.wav", "'-5.wav"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'=1"),
        ("\uff1d1", "'\uff1d1"),
        ("'=1", "'=1"),
        ("a\nb\tc", "a b c"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("\u202egpj.wav", "\\u202egpj.wav"),
        ("क्\u200dष", "क्\u200dष"),
        (-1.5, -1.5),
        (None, None),
        ("", ""),
    ],
)
def test_cells(text: Any, shown: Any):
    assert cell(text) == shown


def test_parquet_says_what_csv_says(folder: Path):
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = parquet.read_table(folder / "scores.parquet").to_pylist()
    plain = _csv(folder / "scores.csv")
    assert [row["value"] for row in rows] == [
        float(r["value"]) if r["value"] else None for r in plain
    ]
    assert [row["error"] for row in rows] == [row["error"] for row in plain]


def test_without_pyarrow_an_older_parquet_does_not_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "scores.parquet").write_bytes(b"of an earlier run")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    files = write_report(benched(tmp_path), tmp_path, clips=0)
    assert sorted(file.name for file in tmp_path.iterdir() if file.is_file()) == sorted(
        file.name for file in files
    )
    assert not (tmp_path / "scores.parquet").exists()


def test_the_main_table_has_no_number_where_nothing_was_measured(html: str):
    rows = {row[0].split()[0]: row for row in Cells(html).rows[1:]}
    assert len(rows) == 7
    assert {row[6].strip() for row in rows.values()} == {"not run"}
    assert rows["noise"][5].strip() == "failed (STOI: planted)"
    assert "n=11, 1 failed" in rows["speech@1"][3]
    assert "PESQ: <no> utterance (1)" in rows["speech@1"][3]
    assert "6.055" in rows["opus:6"][3]  # 1 + 5 + the mean of 0 to 11 hundredths
    assert "5.955 to 6.155" in rows["opus:6"][3]
    assert "n=12" in rows["opus:6"][3]
    assert rows["original"][1].strip() == "\u2013"  # a dash, for no rate


def test_the_best_is_marked_among_codecs_only(folder: Path):
    view = View(benched(folder))
    subjects = {subject.name: subject for subject in view.results.subjects}
    best = {n for n, s in subjects.items() if view.cell(s, view.infos["wer"]).best}
    assert best == {"opus:6"}  # noise has fewer errors here, and does not compete
    tied = {n for n, s in subjects.items() if view.cell(s, view.infos["pesq"]).tied}
    assert tied == {"speech@4"}  # the planted interval that holds 0


def test_nothing_in_the_page_asks_for_anything_outside(html: str):
    parsed = Cells(html)
    for tag, attributes in parsed.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        for name in ("src", "href", "srcset", "action", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, value)
    assert "default-src 'none'" in html
    assert not re.search(r"@import|url\(", html)
    own = parsed.scripts[None]
    assert set(re.findall(r"https?://[^'\" ]+", own)) == {"http://www.w3.org/2000/svg"}  # a name
    assert not re.search(r"\b(fetch|XMLHttpRequest|WebSocket|sendBeacon|import)\s*\(", own)


def test_what_a_transcript_says_stays_text(html: str, folder: Path):
    parsed = Cells(html)
    assert [tag for tag, _ in parsed.elements].count("script") == 2 + 4  # ours, data, four clips
    assert not any("onerror" in attributes for _, attributes in parsed.elements)
    data = json.loads(parsed.scripts["data"])
    assert data["clips"][0]["text"] == HOSTILE
    assert "<bench>" not in html
    text = (folder / "report.md").read_text("utf-8")
    assert "<b>" not in text
    assert "weights are not here &lt;b&gt;" in text


def test_the_browser_is_told_which_script_is_ours(html: str):
    import hashlib

    own = Cells(html).scripts[None]
    digest = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in html


def test_markdown_has_table_protocols_pairs_findings_and_failures(folder: Path):
    text = (folder / "report.md").read_text("utf-8")
    assert "| subject | kbps | nominal kbps | pesq ↑ | wer ↓ % | stoi ↑ | utmos ↑ MOS |" in text
    assert "| *noise* |" in text
    assert "**6.055** [5.955 to 6.155]" in text
    assert re.search(r"\| \*noise\* .*failed \(STOI: planted\) \| not run \|", text)
    assert "**Not run:** weights are not here" in text
    assert (
        "| pesq | speech@4 | opus:6 | -1.000 | -2.200 to +0.200 | 12 | cannot be told apart |"
        in text
    )
    assert (
        "| wer | speech@1 | speech@2 | +5.000 | +4.000 to +6.000 | 12 | speech@2 is better |"
        in text
    )
    assert "**71.50** [70.00 to 73.00]" in text
    assert "not measured (one speaker only)" in text
    assert "| speech@1 | pesq | 1 | 11 | PESQ: &lt;no&gt; utterance (1) |" in text
    widths = {
        line.count(" | ") for line in text.split("## Protocols")[0].splitlines() if "|" in line
    }
    assert widths == {6}  # each row has as many cells as the head


def test_an_opinion_without_wer_is_said_aloud(tmp_path: Path):
    def warned(*metrics: str, words: float | None = 5.0) -> list[str]:
        results = Results(
            {},
            [],
            [MetricInfo(name, "higher", "MOS" if name == "utmos" else "", "p") for name in metrics],
            [Subject("speech@1", "codec", 1, 1)],
            [],
            [
                Mean("speech@1", "utmos", 4.0, 3.9, 4.1, 3),
                Mean("speech@1", "wer", words, None, None, 3),
            ],
            [],
            [],
        )
        write_report(results, tmp_path)
        page = (tmp_path / "report.html").read_text("utf-8")
        return re.findall(r'<p class="warning" role="note">(.*?)</p>', page)

    assert warned("stoi") == []
    assert warned("utmos", "wer") == []
    assert "No WER beside utmos" in warned("utmos")[0]
    assert "speech@1" in warned("utmos", "wer", words=None)[0]


def test_recordings_to_hear_are_the_worst_and_then_some(tmp_path: Path):
    view = View(benched(tmp_path, clips=20, kept=20))
    names = [clip.name for clip in embedding.chosen(view, 6)]
    # clip-2 failed, so the worst three by pesq are 0, 1 and 3; the failed one has no rank.
    assert names[:3] == ["clip-0", "clip-1", "clip-3"]
    assert len(set(names)) == 6
    assert {len(embedding.chosen(view, n)) for n in (0, 1, 2)} == {0, 1, 2}
    assert len(embedding.chosen(view, 99)) == 20


def test_audio_in_the_page_is_the_file_itself(html: str, folder: Path):
    scripts = Cells(html).scripts
    results = benched(folder)
    entries = [json.loads(scripts[f"clip-{i}"]) for i in range(4)]
    for entry in entries:
        name = results.clips[entry["clip"]].name
        for subject, data, missing in zip(
            entry["subjects"], entry["audio"], entry["missing"], strict=True
        ):
            who = results.subjects[subject].name
            path = folder / results.audio[who][name]
            if not path.exists():
                assert data is None
                assert "clip-1" in missing
                continue
            heard, rate = soundfile.read(io.BytesIO(base64.b64decode(data)), dtype="int16")
            kept, kept_rate = soundfile.read(path, dtype="int16")
            assert rate == kept_rate
            assert np.array_equal(heard, kept)  # the one wav became FLAC, sample for sample


def test_a_page_stays_within_its_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(embedding, "BUDGET", 300_000)
    results = benched(tmp_path, kept=8)
    write_report(results, tmp_path, clips=8)
    page = (tmp_path / "report.html").read_text("utf-8")
    count = sum(f'id="clip-{i}"' in page for i in range(8))
    assert 0 < count < 8
    assert "fewer than the 8 asked for" in page
    assert len(page) < 300_000 + 150_000


def test_without_audio_the_page_says_so(tmp_path: Path):
    results = benched(tmp_path, kept=0)
    write_report(results, tmp_path)
    assert "No audio was kept" in (tmp_path / "report.html").read_text("utf-8")


def _pixels(url: str) -> np.ndarray[Any, Any]:
    image = pytest.importorskip("PIL.Image")
    data = base64.b64decode(url.removeprefix("data:image/png;base64,"))
    with image.open(io.BytesIO(data)) as opened:
        return np.asarray(opened.convert("RGB"))


def test_pictures_are_read_by_another_program():
    seen = _pixels(png(np.array([[0.0, 1.0, 0.5], [-9.0, 9.0, 0.0]]), 0, 1))
    colours = palette(HEAT)
    low, high, middle = colours[0], colours[-1], colours[LEVELS // 2]
    assert np.array_equal(seen, [[low, high, middle], [low, high, low]])
    assert zlib.crc32(b"IEND") == 0xAE426082  # as the standard prints it


def test_usage_in_closed_form():
    subject = Subject("s", "codec", 1, 1, {}, [[5, 5, 5, 5], [100], []], [4, 8, 16])
    even, one, none = strips(subject)
    assert even["perplexity"] == pytest.approx(4)
    assert even["share"] == 1
    assert one["perplexity"] == pytest.approx(1)
    assert (one["used"], one["share"]) == (1, 1 / 8)
    assert (none["used"], none["size"], none["perplexity"]) == (0, 16, 0)
    assert _pixels(one["strip"]).shape == (1, 8, 3)


def test_results_that_name_something_twice_are_refused(tmp_path: Path):
    results = benched(tmp_path)
    results.subjects.append(results.subjects[1])
    with pytest.raises(ValueError, match="'speech@1' twice in subjects"):
        write_report(results, tmp_path)
    with pytest.raises(ValueError, match="clips is -1"):
        write_report(benched(tmp_path), tmp_path, clips=-1)


def test_the_command_draws_it_again_and_leaves_nothing_half_written(tmp_path: Path):
    benched(tmp_path).save(tmp_path / "results.json")
    for title in ("First", "Second"):
        done = audiotok("report", tmp_path, "--clips", "1", "--title", title, "--json")
        assert done.code == 0, done.err
    assert "<h1>Second</h1>" in (tmp_path / "report.html").read_text("utf-8")
    assert {Path(path).name for path in done.json} >= {"report.html", "report.md", "means.csv"}
    assert not list(tmp_path.glob(".*"))
    done = audiotok("report", tmp_path / "nowhere")
    assert done.code == 1
    assert len(done.lines) == 1


# -- headline, matrix, infinite scores --------------------------------------------------------


def test_both_reports_open_with_the_headline(html: str, folder: Path):
    head = "2 codecs in 5 rows at 0.6 to 2.6 kbps on 12 recordings."
    assert f'<p class="headline">{head}' in html
    assert (folder / "report.md").read_text("utf-8").splitlines()[2].startswith(f"**{head}")


def test_codebooks_are_one_matrix_and_rates_of_a_codec_one_row(tmp_path: Path):
    results = benched(tmp_path)
    added = [
        Finding("codes", f"{what} of codebook {k}", 2.5 + k, "bits", "higher", note="n", subject=s)
        for s, books in (("speech@1", 1), ("speech@2", 2))
        for what in ("entropy", "frames alike")
        for k in range(1, books + 1)
        if what == "entropy" or k == 1
    ]
    subjects = [
        replace(s, usage=s.usage[: int(s.name[-1])], sizes=s.sizes[: int(s.name[-1])])
        if s.usage
        else s
        for s in results.subjects
    ]
    view = View(replace(results, findings=[*results.findings, *added], subjects=subjects))
    known = matrix(view)
    assert known
    assert known.codebooks == 2
    facts = {fact.name: fact for fact in known.facts}
    assert list(facts) == ["entries seen", "perplexity", "dead entries", "entropy"]
    (row,) = facts["entropy"].rows[1:] or facts["entropy"].rows
    assert (row.subject, row.also) == ("speech@2", ["speech@1"])
    assert [entry and entry.value for entry in row.entries] == [3.5, 4.5]
    assert "frames alike of codebook 1" in rest(view, known)["codes"], "not of every codebook"
    assert "entropy of codebook 1" not in rest(view, known)["codes"]
    seen = facts["entries seen"].rows
    assert [(r.subject, r.also) for r in seen] == [
        ("speech@2", ["speech@1"]),
        ("speech@3", ["speech@4"]),
    ]
    lines = markdown(view, "t").splitlines()
    assert "| of each codebook | codec | 1 | 2 |" in lines
    assert "| entropy ↑ bits | speech@2, speech@1 | 3.50 | 4.50 |" in lines


def test_codebooks_past_the_32nd_are_left_to_the_results(tmp_path: Path):
    results = benched(tmp_path)
    many = Subject("mel", "codec", 1, 1, {}, [[60, 20]] * 80, [2] * 80)
    few = replace(many, name="few", usage=many.usage[:32], sizes=many.sizes[:32])
    view = View(replace(results, subjects=[few, many], findings=[]))
    known = matrix(view)
    assert known
    assert known.codebooks == 32
    assert {len(row.entries) for fact in known.facts for row in fact.rows} == {32}
    assert known.notes == ["mel: the first 32 of 80 codebooks; results.json has all."]
    assert known.notes[0] in markdown(view, "t")


def test_entries_are_called_dead_where_frames_suffice_only(tmp_path: Path):
    results = benched(tmp_path)
    few = Subject("few@1", "codec", 1, 1, {}, [[3, 2]], [1024])
    many = Subject("many@1", "codec", 1, 1, {}, [[60, 19, 1]], [8])
    known = matrix(View(replace(results, subjects=[few, many], findings=[])))
    assert known
    dead = next(fact for fact in known.facts if fact.name == "dead entries")
    assert {row.subject: [e and e.text for e in row.entries] for row in dead.rows} == {
        "few@1": ["?"],
        "many@1": ["5"],
    }
    assert known.notes == [
        "few@1: 5 frames are too few to call entries dead; 10,240 are needed for 1,024 entries."
    ]
    known = matrix(View(replace(results, subjects=[few], findings=[])))
    assert known
    assert "dead entries" not in [fact.name for fact in known.facts]
    assert matrix(View(replace(results, subjects=results.subjects[:1], findings=[]))) is None


def test_infinite_is_shown_as_such_everywhere_and_is_no_failure(tmp_path: Path):
    results = benched(tmp_path)
    means = [
        replace(m, value=None, low=None, high=None, n=0, failed={}, infinite={"inf": 12})
        if (m.subject, m.metric) == ("original", "pesq")
        else replace(m, n=9, infinite={"inf": 2, "-inf": 1})
        if (m.subject, m.metric) == ("speech@2", "pesq")
        else m
        for m in results.means
    ]
    scores = [
        replace(row, total=None, count=None, infinite="inf")
        if (row.subject, row.metric) == ("original", "pesq")
        else row
        for row in results.scores
    ]
    changed = replace(results, means=means, scores=scores)
    changed.save(tmp_path / "results.json")
    assert Results.load(tmp_path / "results.json") == changed
    write_report(changed, tmp_path, clips=0)
    text = (tmp_path / "report.md").read_text("utf-8")
    assert "| *original* |  |  | ∞ |" in text
    assert "n=9, 2 are ∞, 1 are -∞ |" in text
    assert "| original | pesq |" not in text.split("## Failures")[1]
    html = (tmp_path / "report.html").read_text("utf-8")
    rows = {row[0].split()[0]: row for row in Cells(html).rows[1:]}
    assert rows["original"][3].split() == ["∞", "n=12"]
    assert "and 2 are ∞, 1 are -∞" in rows["speech@2"][3]
    data = json.loads(Cells(html).scripts["data"])
    assert data["scores"][0][0] == ["∞"] * 12
    assert data["errors"][0][0] == {}
    kept = {(r["subject"], r["metric"]): r for r in _csv(tmp_path / "means.csv")}
    assert (kept["original", "pesq"]["mean"], kept["original", "pesq"]["n"]) == ("inf", "12")
    assert kept["original", "pesq"]["failed"] == "0"
    row = next(r for r in _csv(tmp_path / "scores.csv") if r["metric"] == "pesq")
    assert (row["subject"], row["value"], row["error"]) == ("original", "inf", "")


def test_a_waveform_is_the_lowest_and_highest_samples(tmp_path: Path):
    wave = np.zeros(4000, np.float32)
    wave[1000], wave[3999] = 0.5, -1.0
    drawn = np.frombuffer(
        base64.b64decode(embedding._wave(Audio(torch.from_numpy(wave[None]), 8000))), np.uint8
    )
    pairs = drawn.reshape(-1, 2)
    assert pairs.shape == (embedding.PEAKS, 2)
    assert pairs[100].tolist() == [128, 192]
    assert pairs[-1].tolist() == [0, 128]
    assert (np.delete(pairs, [100, 399], 0) == 128).all()
