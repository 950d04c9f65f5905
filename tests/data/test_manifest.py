"""Manifests: what is read from them, what is wrong with them, and what is made of a folder."""

from __future__ import annotations

import csv
import json
import logging
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from audiotok.audio import folder as folders
from audiotok.audio.decoders import AUDIO, AudioFileError
from audiotok.audio.folder import shares
from audiotok.audio.walk import files_below, glob_files
from audiotok.data.locator import AudioLocator
from audiotok.data.manifest import read_manifest, with_splits, write_manifest
from audiotok.data.recording import Recording, key_of
from audiotok.data.unreadable import Unreadable
from audiotok.runtime.batch.plan import find


def audio(path: Path, *, seconds: float = 0.1, rate: int = 8000, channels: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (round(seconds * rate), channels)
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, shape), rate)
    return path


# -- reading ----------------------------------------------------------------------------------

ROWS = [
    {"path": "a.wav", "split": "train", "speaker": "7", "text": 'He said "no", and left'},
    {"path": "/far/b.wav", "split": "dev", "speaker": "", "text": "ça va — 你好"},
    {"path": "sub/c.flac", "split": "train", "speaker": "8", "text": '"Quoted" begins it'},
]


def tsv(path: Path) -> Path:
    rows = [list(ROWS[0]), *(row.values() for row in ROWS)]
    path.write_text("".join("\t".join(row) + "\n" for row in rows), "utf-8")
    return path


def comma(path: Path) -> Path:
    with path.open("w", newline="", encoding="utf-8") as lines:
        table = csv.DictWriter(lines, list(ROWS[0]))
        table.writeheader()
        table.writerows(ROWS)
    return path


def jsonl(path: Path) -> Path:
    path.write_text("\n".join(map(json.dumps, ROWS)) + "\n\n", "utf-8")
    return path


@pytest.mark.parametrize(("write", "name"), [(tsv, "m.tsv"), (jsonl, "m.jsonl"), (comma, "m.csv")])
def test_a_manifest_lists_recordings_with_what_is_known_of_them(write, name: str, tmp_path: Path):
    path = write(tmp_path / name)
    everything = read_manifest(path)
    assert [r.path for r in everything] == [
        tmp_path / "a.wav",
        Path("/far/b.wav"),
        tmp_path / "sub/c.flac",
    ]
    assert [r.columns() for r in everything] == ROWS
    assert [(r.text, r.speaker) for r in everything] == [(r["text"], r["speaker"]) for r in ROWS]
    assert [r.column("path") or str(r.path) for r in read_manifest(path, split="dev")] == [
        "/far/b.wav"
    ]


def test_what_spreadsheets_do_to_a_file_is_understood(tmp_path: Path):
    path = tmp_path / "m.tsv"
    path.write_bytes("\ufeffpath\ttext\r\na.wav\tA\r\n\r\nb.wav\r\n".encode())
    assert [r.columns() for r in read_manifest(path)] == [
        {"path": "a.wav", "text": "A"},
        {"path": "b.wav", "text": ""},
    ]


def test_json_that_is_not_text_is_kept_as_json(tmp_path: Path):
    path = tmp_path / "m.jsonl"
    path.write_text('{"path": "a.wav", "seconds": 3.25, "ok": true, "text": null, "tags": ["ß"]}')
    (recording,) = read_manifest(path)
    cells = {"path": "a.wav", "seconds": "3.25", "ok": "true", "tags": '["ß"]'}
    assert recording.columns() == cells
    assert recording.fields == {"seconds": 3.25, "ok": True, "tags": ["ß"]}
    assert (recording.column("ok"), recording.seconds) == ("true", 3.25)
    assert recording.text == ""


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.tsv", "", r": no recording is listed"),
        (
            "m.tsv",
            "file\tsplit\na.wav\tdev\n",
            r", line 2: no path; call the column `path`, there is only file, split",
        ),
        ("m.tsv", "path\tsplit\n", r": no recording"),
        ("m.tsv", "path\ttext\na.wav\tA\nb.wav\tB\tC\n", r", line 3: more fields than .* 2"),
        ("m.tsv", "path\ttext\n\tA\n", r", line 2: `path` is empty"),
        ("m.tsv", "path\ttext\ttext\na.wav\tA\tB\n", r", line 1: two columns are called `text`"),
        ("m.csv", 'path,text\na.wav,"No," he said\n', r", line 2: .* \(a field that begins"),
        ("m.csv", 'path,text\na.wav,A\nb.wav,"No\nc,C\n', r", line 3: a quotation mark opens"),
        ("m.tsv", b"path\ttext\na.wav\t\xe9\n", r": not UTF-8; convert it"),
        ("m.jsonl", "", r": no recording"),
        ("m.jsonl", '{"path": "a.wav"}\n\n{"path": \n', r", line 3: not JSON \(Expecting value"),
        (
            "m.jsonl",
            '{"path": "a.wav"}\n{"file": "b"}\n',
            r", line 2: no path; call the column `path`, there is only file",
        ),
        ("m.jsonl", '["a.wav"]\n', r", line 1: not an object but \[\"a.wav\"\]"),
        ("m.jsonl", '{"path": null}\n', r", line 1: `path` is empty"),
        ("m.jsonl", b'{"path": "\xe9"}\n', r": not UTF-8; convert it"),
    ],
)
def test_a_manifest_that_cannot_be_understood(
    name: str, content: str | bytes, message: str, tmp_path: Path
):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=f"^{path}{message}[^\n]*$"):
        read_manifest(path)


def test_a_manifest_that_is_not_there_or_has_not_this_split(tmp_path: Path):
    with pytest.raises(ValueError, match=r"none.tsv: no such file"):
        read_manifest(tmp_path / "none.tsv")
    path = tsv(tmp_path / "m.tsv")
    with pytest.raises(ValueError, match=f"^{path}: no recording of split 'test'; it has dev, tra"):
        read_manifest(path, split="test")


def test_between_tabs_quotation_marks_are_text(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = tmp_path / "m.tsv"
    path.write_text('path\ttext\na.wav\t"opens here\nb.wav\tin "the" middle\nc.wav\tcloses here"\n')
    texts = ['"opens here', 'in "the" middle', 'closes here"']
    assert [r.text for r in read_manifest(path)] == texts
    assert not caplog.messages
    path.write_text('path\ttext\na.wav\t"so ""he"" said"\nb.wav\t"and ""she"" too"\n')
    assert read_manifest(path)[0].text == '"so ""he"" said"'
    (line,) = caplog.messages
    assert f"{path}, line 2: a field is quoted as in CSV" in line


def test_tables_of_others(tmp_path: Path):
    """Common Voice's, whose files lie in clips/, NeMo's, and those of audiofolder."""
    audio(tmp_path / "clips" / "c.wav")
    audio(tmp_path / "beside.wav")
    (tmp_path / "dev.tsv").write_text(
        "client_id\tpath\tsentence\tage\nme\tc.wav\tOh no\t\nyou\tbeside.wav\tYes\t\n"
    )
    (tmp_path / "metadata.csv").write_text('file_name,transcription\nclips/c.wav,"Oh, no"\n')
    (tmp_path / "m.jsonl").write_text('{"audio_filepath": "clips/c.wav", "text": "Oh no"}\n')
    one, two = read_manifest(tmp_path / "dev.tsv")
    assert (one.path, one.text, one.speaker) == (tmp_path / "clips" / "c.wav", "Oh no", "me")
    assert (two.path, two.text) == (tmp_path / "beside.wav", "Yes")
    for name, text in (("metadata.csv", "Oh, no"), ("m.jsonl", "Oh no")):
        (found,) = read_manifest(tmp_path / name)
        assert (found.path, found.text) == (one.path, text)


# -- folders ----------------------------------------------------------------------------------


def test_a_folder_without_audio(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("nothing to hear", "utf-8")
    for split in (None, "test"):
        with pytest.raises(ValueError, match=f"^{tmp_path}: no audio file in this folder"):
            read_manifest(tmp_path, split=split)


def test_audio_is_found_below_a_folder_and_nothing_else(tmp_path: Path):
    for name in ("b.wav", "a/c.FLAC", "a/b/d.mp3", "note.txt", ".hidden.wav", ".git/e.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.wav").mkdir()
    found = [path.relative_to(tmp_path).as_posix() for path in files_below(tmp_path, AUDIO)]
    assert found == ["a/b/d.mp3", "a/c.FLAC", "b.wav"]


@pytest.mark.skipif(os.name != "posix", reason="no pipes in folders, no links for everyone")
def test_pipes_and_loops_of_links_are_left_out_wherever_a_folder_is_searched(tmp_path: Path):
    corpus, other = tmp_path / "corpus", tmp_path / "other"
    audio(corpus / "a.wav")
    audio(other / "b.wav")
    (other / "gone.wav").symlink_to(tmp_path / "nowhere")
    (corpus / "loop").symlink_to(corpus)
    (corpus / "deep").mkdir()
    (corpus / "deep" / "up").symlink_to("..")
    (corpus / "self.wav").symlink_to("self.wav")
    (corpus / "there").symlink_to(other)
    for name in ("pipe.wav", "a.txt", "x.trans.txt"):
        os.mkfifo(corpus / name)
    names = ["a.wav", "self.wav", "there/b.wav", "there/gone.wav"]
    assert [p.relative_to(corpus).as_posix() for p in files_below(corpus, AUDIO)] == names
    assert [p.relative_to(corpus).as_posix() for p in map(Path, glob_files(
        f"{corpus}/**/*.wav"
    ))] == names  # fmt: skip
    assert [r.path.name for r in read_manifest(corpus)] == [Path(name).name for name in names]
    (corpus / "self.wav").unlink()
    summary = write_manifest(corpus, tmp_path / "m.tsv")
    assert (summary.recordings, len(summary.errors)) == (2, 1)


def test_a_folder_that_cannot_be_listed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    audio(tmp_path / "open" / "a.wav")
    audio(tmp_path / "shut" / "b.wav")
    scandir = os.scandir

    def refusing(path: str) -> Any:
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(ValueError, match=r"shut: cannot be listed \(Permission denied\)"):
        read_manifest(tmp_path)
    pairs, errors = find([str(tmp_path)], AUDIO)
    assert [file.name for file, _ in pairs] == ["a.wav"]
    assert errors == [
        (f"{tmp_path}/shut", f"{tmp_path}/shut: no permission to list this folder; try `chmod +rx`")
    ]


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3"])
def test_a_probe_says_what_is_in_a_file(suffix: str, tmp_path: Path):
    path = audio(tmp_path / f"a{suffix}", seconds=1.5, rate=16000, channels=2)
    found = Recording.of_file(path).probe()
    assert (found.rate, found.channels) == (16000, 2)
    assert found.samples == len(soundfile.read(path)[0])


def test_a_probe_of_nothing(tmp_path: Path):
    with pytest.raises(AudioFileError, match="holds no samples"):
        Recording.of_file(audio(tmp_path / "a.wav", seconds=0)).probe()


def test_a_folder_becomes_a_manifest_that_reads_back(tmp_path: Path):
    corpus = tmp_path / "corpus"
    audio(corpus / "x" / "a.wav", seconds=0.5, rate=16000, channels=2)
    audio(corpus / "b.flac", seconds=0.25)
    (corpus / "b.txt").write_text('He said\t"no",\n and left.\n')
    for out in (tmp_path / "m.tsv", tmp_path / "deep" / "er" / "m.jsonl"):
        summary = write_manifest(corpus, out)
        assert summary.recordings == 2
        assert summary.seconds == 0.75
        assert (summary.texts, summary.splits) == (1, {"dev": 1, "train": 1})
        assert summary.errors == []
        b, a = read_manifest(out)
        assert [os.path.realpath(r.path) for r in (a, b)] == [
            os.path.realpath(corpus / "x" / "a.wav"),
            os.path.realpath(corpus / "b.flac"),
        ]
        assert not Path(a.columns()["path"]).is_absolute()
        assert b.text == 'He said "no", and left.'
        assert a.text == ""
        assert [a.column(k) for k in ("rate", "channels")] == ["16000", "2"]
        assert float(a.fields["seconds"]) == 0.5
    assert isinstance(json.loads(out.read_text().splitlines()[0])["seconds"], float)
    shutil.move(tmp_path / "corpus", tmp_path / "deep" / "corpus")  # both move together
    assert not read_manifest(tmp_path / "m.tsv")[0].path.exists()


def test_files_that_cannot_be_read_are_named_and_left_out(tmp_path: Path):
    corpus = tmp_path / "corpus"
    audio(corpus / "good.wav")
    (corpus / "bad.wav").write_bytes(b"RIFF\0\0\0\0WAVEnonsense")
    (corpus / "empty.flac").touch()
    audio(corpus / "none.wav", seconds=0)
    summary = write_manifest(corpus, tmp_path / "m.tsv")
    assert [Path(name).name for name, _ in summary.errors] == ["bad.wav", "empty.flac", "none.wav"]
    for name, line in summary.errors:
        assert name in line
        assert "\n" not in line
    assert [r.path.name for r in read_manifest(tmp_path / "m.tsv")] == ["good.wav"]
    (corpus / "good.wav").unlink()
    with pytest.raises(
        ValueError, match=r"corpus: none of 3 recordings can be read; the first: .*bad"
    ):
        write_manifest(corpus, tmp_path / "m.tsv", force=True)


@pytest.mark.skipif(os.name != "posix", reason="no such names")
def test_a_name_that_a_table_cannot_hold_is_left_out_of_it(tmp_path: Path):
    corpus = tmp_path / "corpus"
    bad = audio(corpus / "a\tb.wav").name
    audio(corpus / '"c.wav')
    (corpus / '"c.txt').write_text('"Oh" she said\n')
    summary = write_manifest(corpus, tmp_path / "m.tsv")
    assert [line for _, line in summary.errors] == [
        f"{bad!r}: a tab or line break in the name; rename it, or write a .jsonl manifest"
    ]
    (one,) = read_manifest(tmp_path / "m.tsv")
    assert (one.path.name, one.text) == ('"c.wav', '"Oh" she said')
    assert write_manifest(corpus, tmp_path / "m.jsonl").recordings == 2
    assert len(read_manifest(tmp_path / "m.jsonl")) == 2


@pytest.mark.skipif(os.name != "posix", reason="names are not bytes")
def test_a_name_that_is_not_utf8_is_left_out(tmp_path: Path):
    corpus = tmp_path / "corpus"
    audio(corpus / "good.wav")
    try:
        shutil.copy(corpus / "good.wav", corpus / os.fsdecode(b"caf\xe9.wav"))
    except OSError:
        pytest.skip("this file system has no such names")
    summary = write_manifest(corpus, tmp_path / "m.jsonl")
    assert summary.recordings == 1
    assert "not UTF-8; rename" in summary.errors[0][1]


def test_a_manifest_is_not_overwritten_unasked_and_not_left_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    audio(tmp_path / "corpus" / "a.wav")
    out = tmp_path / "m.tsv"
    out.write_text("mine")
    with pytest.raises(ValueError, match=f"^{out}: exists already; force=True overwrites it$"):
        write_manifest(tmp_path / "corpus", out)
    with monkeypatch.context() as patch:
        full = OSError("full")
        patch.setattr("audiotok.data.manifest._plain", lambda _: (_ for _ in ()).throw(full))
        with pytest.raises(OSError, match="full"):
            write_manifest(tmp_path / "corpus", out, force=True)
    assert out.read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["corpus", "m.tsv"]
    write_manifest(tmp_path / "corpus", out, force=True)
    assert len(read_manifest(out)) == 1


def test_what_no_manifest_can_be_made_of(tmp_path: Path):
    for folder, out, message in [
        (tmp_path, tmp_path / "m.csv", "a manifest is a .tsv or a .jsonl file"),
        (tmp_path / "none", tmp_path / "m.tsv", "no such folder, manifest or archive"),
        (tmp_path, tmp_path / "m.tsv", "no audio file in this folder"),
    ]:
        with pytest.raises(ValueError, match=message):
            write_manifest(folder, out)


def test_who_stops_looking_at_files_waits_for_none():
    """As Ctrl-C does: files that nobody has begun to look at are left alone."""
    seen: list[int] = []

    def slow() -> folders.Probe:
        seen.append(1)
        time.sleep(0.01)
        return folders.Probe(8000, 1, 1)

    looking = folders.probe_all([slow] * 1000)
    next(looking)
    looking.close()
    assert len(seen) < 500


# -- transcripts ------------------------------------------------------------------------------


def texts(corpus: Path) -> dict[str, tuple[str, str]]:
    return {r.path.stem: (r.speaker, r.text) for r in read_manifest(corpus)}


def test_transcripts_where_librispeech_keeps_them(tmp_path: Path):
    chapter = tmp_path / "dev-clean" / "84" / "121123"
    audio(chapter / "84-121123-0000.flac")
    audio(chapter / "84-121123-0001.flac")
    audio(chapter / "84-121123-0002.flac")
    lines = "84-121123-0000 GO DO YOU HEAR\n84-121123-0001 BUT IN LESS THAN FIVE\n"
    (chapter / "84-121123.trans.txt").write_text(lines)
    assert texts(tmp_path) == {
        "84-121123-0000": ("84", "GO DO YOU HEAR"),
        "84-121123-0001": ("84", "BUT IN LESS THAN FIVE"),
        "84-121123-0002": ("", ""),
    }


def test_transcripts_where_ljspeech_keeps_them(tmp_path: Path):
    for i in (1, 2):
        audio(tmp_path / "wavs" / f"LJ001-000{i}.wav")
    table = 'LJ001-0001|In 1455, he|In fourteen fifty-five, he\nLJ001-0002|"No" | \n'
    (tmp_path / "metadata.csv").write_text(table)
    assert texts(tmp_path) == {
        "LJ001-0001": ("", "In fourteen fifty-five, he"),
        "LJ001-0002": ("", '"No"'),
    }


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
@pytest.mark.parametrize("above", ["", "train/"])
def test_transcripts_where_audiofolder_keeps_them(tmp_path: Path, name: str, above: str):
    rows = [("1.wav", "So, he said", "a"), ("2.wav", 'the "end"', "b")]
    lines = [json.dumps({"file_name": above + f, "text": t, "speaker": s}) for f, t, s in rows]
    if name == "metadata.csv":
        quoted = [(above + f, t.replace('"', '""'), s) for f, t, s in rows]
        lines = ["file_name,transcription,speaker_id", *(f'{f},"{t}",{s}' for f, t, s in quoted)]
    audio(tmp_path / "train" / "1.wav")
    audio(tmp_path / "train" / "2.wav")
    (tmp_path / ("" if above else "train") / name).write_text("\n".join(lines) + "\n")
    assert texts(tmp_path) == {"1": ("a", "So, he said"), "2": ("b", 'the "end"')}


def test_transcripts_beside_the_audio(tmp_path: Path):
    for name in ("a", "b", "c", "d", "e", "f"):
        audio(tmp_path / f"{name}.wav")
    (tmp_path / "a.txt").write_text("  one\n two \n")
    (tmp_path / "b.lab").write_text("three four\n")
    (tmp_path / "c.lab").write_text("0 1050000 sil\n1050000 2300000 t\n")
    (tmp_path / "d.lab").write_text("separator ;\n#\n 0.1 121 sil\n")
    (tmp_path / "e.txt").write_text("raw")
    (tmp_path / "e.normalized.txt").write_text("normalised")
    found = {name: text for name, (_, text) in texts(tmp_path).items()}
    assert found == {
        "a": "one two",
        "b": "three four",
        "c": "",
        "d": "",
        "e": "normalised",
        "f": "",
    }


def test_a_transcript_that_is_not_utf8_is_an_error(tmp_path: Path):
    audio(tmp_path / "a.wav")
    (tmp_path / "a.txt").write_bytes(b"caf\xe9")
    with pytest.raises(ValueError, match=r"a\.txt: not UTF-8"):
        read_manifest(tmp_path)


# -- splits -----------------------------------------------------------------------------------


def split_of(names: list[str], splits: dict[str, float]) -> dict[str, str]:
    recordings = [Recording(name, AudioLocator(name, name)) for name in names]
    return {each.id: each.split for each in with_splits(recordings, splits)}


def test_splits_have_about_their_shares_and_depend_on_names_alone():
    names = [f"{i // 5}/{i}.wav" for i in range(2000)]  # 400 folders
    splits = {"dev": 0.1, "test": 0.2}
    found = split_of(names, splits)
    counts = {name: list(found.values()).count(name) / 2000 for name in ("dev", "test", "train")}
    assert abs(counts["dev"] - 0.1) < 0.05
    assert abs(counts["test"] - 0.2) < 0.06
    for folder in range(400):
        assert len({found[f"{folder}/{i}.wav"] for i in range(5 * folder, 5 * folder + 5)}) == 1
    # In another order, and with half of it missing, it is the same.
    assert split_of(names[::-1], splits) == found
    assert split_of(names[:1000], splits).items() <= found.items()


def test_a_speaker_is_never_in_two_splits(tmp_path: Path):
    for speaker in range(30):
        for chapter in ("1", "2"):
            folder = tmp_path / f"{speaker}" / chapter
            name = f"{speaker}-{chapter}-0000"
            audio(folder / f"{name}.wav", seconds=0.01)
            (folder / f"{speaker}-{chapter}.trans.txt").write_text(f"{name} WORD\n")
    recordings = read_manifest(tmp_path)
    splits = {
        s: {r.fields["split"] for r in recordings if r.speaker == s}
        for s in {r.speaker for r in recordings}
    }
    assert len(splits) == 30
    assert {len(s) for s in splits.values()} == {1}
    assert {next(iter(s)) for s in splits.values()} == {"dev", "train"}


def test_few_folders_are_no_speakers():
    """Two languages in two folders: dev is not to become one of them."""
    names = [f"{language}/{i}.wav" for language in ("de", "fr") for i in range(1000)]
    found = split_of(names, {"dev": 0.1})
    for language in ("de", "fr"):
        dev = sum(found[f"{language}/{i}.wav"] == "dev" for i in range(1000))
        assert abs(dev - 100) < 40


@pytest.mark.parametrize("count", range(1, 8))
def test_of_few_files_still_each_split_gets_one(count: int):
    for salt in range(20):
        names = [f"{salt}-{i}.wav" for i in range(count)]
        for splits in ({"dev": 0.05}, {"dev": 0.9}, {"dev": 0.01, "test": 0.98}):
            found = set(split_of(names, splits).values())
            if count > len(splits):
                assert found == {"train", *splits}
            else:
                assert "train" in found


def test_a_folder_is_split_as_a_manifest_of_it(tmp_path: Path):
    for i in range(40):
        audio(tmp_path / "corpus" / f"{i}.wav", seconds=0.01)
    write_manifest(tmp_path / "corpus", tmp_path / "m.tsv")
    for split in ("dev", "train"):
        one, other = (
            [r.path.name for r in read_manifest(path, split=split)]
            for path in (tmp_path / "corpus", tmp_path / "m.tsv")
        )
        assert one == other
    summary = write_manifest(tmp_path / "corpus", tmp_path / "all.tsv", splits={})
    assert summary.splits == {"train": 40}


def test_splits_as_a_person_writes_them():
    assert shares(["dev=0.05", "test=.1"]) == {"dev": 0.05, "test": 0.1}
    assert shares([]) == {}
    for wrong in (
        "dev",
        "dev=",
        "=0.1",
        "dev=x",
        "dev=0",
        "dev=1",
        "dev=-1",
        "dev=nan",
        "train=.5",
    ):
        with pytest.raises(ValueError, match=f"^split {wrong}: write it as dev=0.05"):
            shares([wrong])
    with pytest.raises(ValueError, match="leave nothing for `train`"):
        shares(["dev=0.5", "test=0.5"])


# -- what both kinds of corpus go by ----------------------------------------------------------


def test_a_key_changes_with_the_files_and_what_is_done_with_them(tmp_path: Path):
    one, two = (Recording.of_file(audio(tmp_path / f"{n}.wav")) for n in "ab")
    gone = Recording.of_file(tmp_path / "gone.wav")
    lists = [[one], [one, two], [two, one], [gone]]
    keys = [key_of([one], 2), *(key_of(recordings, 1) for recordings in lists)]
    audio(one.path, seconds=0.2)
    keys.append(key_of([one], 1))
    assert len(set(keys)) == len(keys)
    assert key_of([one], 1) == keys[-1]


def test_a_tenth_may_be_unreadable(caplog: pytest.LogCaptureFixture):
    bad = Unreadable(20)
    with caplog.at_level(logging.WARNING, "audiotok"):
        bad.add("a.wav", ValueError("a.wav: broken"))
        bad.add("b.wav", ValueError("broken"))
    assert caplog.messages == ["a.wav: broken; left out", "b.wav: broken; left out"]
    with pytest.raises(ValueError, match=r"^c.wav: broken; that makes 3 of 20 recordings, more th"):
        bad.add("c.wav", ValueError("broken"))
