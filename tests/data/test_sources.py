"""Listings: what recordings a folder, manifest or archive holds, and where their audio is."""

from __future__ import annotations

import datetime
import decimal
import gzip
import io
import json
import os
import socket
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from commandline import audiotok, noise, recording, small

from audiotok import Audio
from audiotok._platform.registry import names
from audiotok.audio.audio import AudioFileError
from audiotok.corpus import Corpus
from audiotok.data.locator import AudioLocator, ListingError, opened
from audiotok.data.manifest import listing_of
from audiotok.data.recording import Recording, digest_of
from audiotok.data.sources.base import ALL


def listed(
    path: Any, kind: str = "auto", part: tuple[int, int] = ALL, audio: str = ""
) -> list[Recording]:
    return list(listing_of(str(path), kind, audio).items(str(path), part))


def heard(item: Recording, **options: Any) -> torch.Tensor:
    with opened(item.locator, **options) as source:
        return torch.cat(list(source.blocks()), 1)


def same(item: Recording, path: Path, start: float | None = None, end: float | None = None) -> bool:
    return torch.equal(heard(item), Audio.load(path, start=start, end=end).samples)


def flac(seed: int, seconds: float = 0.2, channels: int = 1) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, noise(seconds, 16000, channels, seed), 16000, format="FLAC")
    return file.getvalue()


def test_every_kind_is_found_by_its_look_and_takes_no_other(tmp_path: Path):
    """Each makes something of its own; asked for by a name that is none, all are listed."""
    with pytest.raises(ValueError, match=r"folder.*kaldi.*webdataset"):
        listing_of(str(tmp_path / "nothing"))
    assert set(names("sources")) == {
        "folder", "huggingface", "kaldi", "lhotse", "parquet", "shar", "table", "webdataset"
    }  # fmt: skip


def test_a_folder(tmp_path: Path):
    for name in ("b/2.wav", "a.flac", "b/1.wav", ".hidden/x.wav", "b/._1.wav"):
        recording(tmp_path / name, 0.1)
    (tmp_path / "b" / "b.trans.txt").write_text("1 one\n2 two\n")
    (tmp_path / "notes.txt").write_text("no audio")
    items = listed(tmp_path)
    assert [item.id for item in items] == ["a.flac", "b/1.wav", "b/2.wav"]
    assert items[2].fields == {"speaker": "2", "text": "two"}
    assert same(items[1], tmp_path / "b" / "1.wav")


@pytest.mark.parametrize("part", [(0, 3), (1, 3), (2, 3)])
def test_parts_are_disjoint_and_all_together_everything(tmp_path: Path, part: tuple[int, int]):
    for i in range(8):
        recording(tmp_path / f"{i}.wav", 0.02)
    mine = [item.id for item in listed(tmp_path, part=part)]
    assert mine == [f"{i}.wav" for i in range(8) if i % 3 == part[0]]


def test_tables(tmp_path: Path):
    path = recording(tmp_path / "audio" / "a.wav", 1.0, channels=2)
    rows = [
        {"path": "audio/a.wav", "text": 'she said "so"', "speaker": "s1", "score": 3},
        {"id": "half", "path": str(path), "start": 0.25, "end": 0.5, "channel": 1},
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    (tmp_path / "m.jsonl.gz").write_bytes(gzip.compress((tmp_path / "m.jsonl").read_bytes()))
    table = (
        'path\tid\ttext\tspeaker\tscore\tstart\tend\tchannel\naudio/a.wav\t\tshe said "so"\ts1'
        f"\t3\t\t\t\n{path}\thalf\t\t\t\t0.25\t0.5\t1\n"
    )
    (tmp_path / "m.tsv").write_text(table)
    quoted = table.replace('she said "so"', '"she said ""so"""').replace("\t", ",")
    (tmp_path / "m.csv").write_text(quoted)
    for name in ("m.jsonl", "m.jsonl.gz", "m.tsv", "m.csv"):
        one, half = listed(tmp_path / name)
        score = 3 if "json" in name else "3"
        assert (one.id, half.id) == ("audio/a.wav", "half")
        assert one.fields == {"text": 'she said "so"', "speaker": "s1", "score": score}
        assert half.seconds == 0.25
        assert same(one, path)
        assert torch.equal(heard(half), Audio.load(path, start=0.25, end=0.5).samples[1:])


def test_between_tabs_quotation_marks_are_text(tmp_path: Path):
    rows = ['a.wav\t"opens here', 'b.wav\tin "the" middle', 'c.wav\tcloses here"', '"d.wav\t""']
    (tmp_path / "m.tsv").write_text("path\tsentence\n" + "\n".join(rows) + "\n")
    assert [f"{i.id}\t{i.fields['text']}" for i in listed(tmp_path / "m.tsv")] == rows
    (tmp_path / "m.csv").write_text('path,text\na.wav,"one\n\ntwo, ""three"""\nb.wav,four\n')
    assert [i.fields["text"] for i in listed(tmp_path / "m.csv")] == ['one\n\ntwo, "three"', "four"]


def test_nothing_is_lost_for_being_zero(tmp_path: Path):
    rows = [
        {"path": "a.wav", "id": 0, "take": 0, "good": False},
        {"path": "a.wav", "start": 0, "duration": 0.5},
        {"path": "a.wav", "start": 0.0, "end": 0.25, "channel": 0},
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    one, two, three = listed(tmp_path / "m.jsonl")
    assert (one.id, one.fields) == ("0", {"take": 0, "good": False})
    assert (two.locator.end, two.seconds) == (0.5, 0.5)
    assert (three.locator.end, three.locator.channel) == (0.25, 0)


def test_common_voice_as_it_comes(tmp_path: Path):
    path = recording(tmp_path / "clips" / "common_voice_en_1.mp3", 0.3)
    (tmp_path / "train.tsv").write_text(
        "client_id\tpath\tsentence_id\tsentence\tup_votes\tage\n"
        'a1b2\tcommon_voice_en_1.mp3\t17\t"Oh," he said.\t2\t\n'
    )
    (item,) = listed(tmp_path / "train.tsv")
    assert item.id == "common_voice_en_1.mp3"
    text = {"speaker": "a1b2", "sentence_id": "17", "text": '"Oh," he said.', "up_votes": "2"}
    assert item.fields == text
    assert same(item, path)


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_the_metadata_of_audiofolder(tmp_path: Path, name: str):
    path = recording(tmp_path / "data" / "0001.wav", 0.1)
    row = {"file_name": "data/0001.wav", "transcription": "Well, well", "mood": "good"}
    text = 'file_name,transcription,mood\ndata/0001.wav,"Well, well",good\n'
    (tmp_path / name).write_text(json.dumps(row) if "json" in name else text)
    (item,) = listed(tmp_path / name)
    assert item.fields == {"text": "Well, well", "mood": "good"}
    assert same(item, path)
    (item,) = listed(tmp_path)  # of the folder
    assert (item.id, item.fields) == ("data/0001.wav", {"text": "Well, well"})
    (tmp_path / "metadata.csv").write_text('file_name,text\ndata/0001.wav,"Well\n')
    with pytest.raises(ListingError, match=r"metadata.csv, line 2: a quotation mark opens"):
        listed(tmp_path)


def test_which_column_is_the_path_may_be_said(tmp_path: Path):
    (tmp_path / "m.tsv").write_text("path\tnoisy\na.wav\tb.wav\n")
    assert [i.id for i in listed(tmp_path / "m.tsv", audio="noisy")] == ["b.wav"]
    with pytest.raises(ListingError, match="line 2: no path; call the column `clean`"):
        listed(tmp_path / "m.tsv", audio="clean")
    with pytest.raises(ValueError, match="a listing of kind folder has no column or member `wav`"):
        listed(tmp_path, audio="wav")


@pytest.mark.skipif(os.name != "posix", reason="no pipes in folders, no links for everyone")
def test_pipes_and_loops_in_a_folder(tmp_path: Path):
    recording(tmp_path / "a.wav", 0.1)
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "loop").symlink_to("..")
    (tmp_path / "c.wav").symlink_to("nowhere.wav")
    one, two = listed(tmp_path)
    assert (one.id, two.id) == ("a.wav", "c.wav")
    with pytest.raises(AudioFileError, match="no such file"):
        heard(two)


def test_nemo_manifests(tmp_path: Path):
    path = recording(tmp_path / "a.wav", 1.0)
    rows = [
        {"audio_filepath": "a.wav", "duration": 1.0, "text": "all"},
        {"audio_filepath": "a.wav", "offset": 0.5, "duration": 0.25, "text": "some"},
    ]
    (tmp_path / "train.json").write_text("\n".join(map(json.dumps, rows)))
    whole, some = listed(tmp_path / "train.json")
    assert (whole.seconds, some.seconds, some.id) == (1.0, 0.25, "a.wav#0.5-0.75")
    assert same(whole, path)
    assert same(some, path, 0.5, 0.75)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.jsonl", '{"path": "x.wav"}\n[1]\n', "line 2: not an object"),
        ("a.jsonl", '{"file": "x.wav"}\n', "line 1: no path; call the column `path`"),
        (
            "a.jsonl",
            '{"path": "x.wav", "start": "soon"}\n',
            "line 1: `start` is 'soon', not a number of s",
        ),
        ("a.jsonl", '{"path": "x.wav", "start": 2, "end": 1}\n', "cannot cut from 2 s to 1 s"),
        ("a.jsonl", '{"path": "x.wav", "start": -1}\n', "`start` is -1, not a number of seconds"),
        ("a.jsonl", '{"path": "x.wav", "channel": -1}\n', "`channel` is -1, not a number from 0"),
        ("a.jsonl", '{"path": {"x": 1}}\n', "line 1: `path` is not the path of a file"),
        ("a.jsonl", '{"path": "x.wav", "seconds": 1e400}\n', "line 1: not JSON .*largest number"),
        ("a.csv", 'path,text\nx.wav,a\n\ny.wav,"b\nz.wav,c\n', "line 4: a quotation mark opens"),
        ("a.tsv", "path\ttext\ttext\nx.wav\ta\tb\n", "line 1: two columns are called `text`"),
        ("a.tsv", "path\ttext\nx.wav\ta\tb\n", "line 2: more fields"),
        ("a.csv", 'path,text\nx.wav,"a" b\n', "line 2: .*ends with one"),
        ("a.tsv", "file\ttext\nx.wav\ta\n", "line 2: no path"),
    ],
)
def test_bad_tables_are_one_line(tmp_path: Path, name: str, text: str, words: str):
    (tmp_path / name).write_text(text)
    with pytest.raises(ListingError, match=words) as caught:
        listed(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_what_is_not_utf8_is_said(tmp_path: Path):
    (tmp_path / "a.tsv").write_bytes("path\nmüde.wav\n".encode("latin-1"))
    with pytest.raises(ListingError, match="not UTF-8"):
        listed(tmp_path / "a.tsv")


def kaldi(folder: Path, **tables: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in tables.items():
        (folder / name.replace("_", ".")).write_text(text)
    return folder


def test_a_kaldi_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    path = recording(tmp_path / "a.wav", 1.0)
    ark = b"utt-c " + path.read_bytes()
    (tmp_path / "wav.ark").write_bytes(ark)
    folder = kaldi(
        tmp_path / "data",
        wav_scp=f"utt-a {path}\nutt-b a.wav\nutt-c wav.ark:6\nutt-d cat a.wav |\n",
        text="utt-a HELLO YOU\nutt-c YES\n",
        utt2spk="utt-a s1\nutt-b s1\nutt-c s2\n",
        utt2dur="utt-a 1.0\n",
    )
    a, b, c, d = listed(folder)
    assert a.fields == {"text": "HELLO YOU", "speaker": "s1"}
    assert (b.fields, c.fields, d.fields) == (
        {"speaker": "s1"},
        {"text": "YES", "speaker": "s2"},
        {},
    )
    assert (a.seconds, b.seconds) == (1.0, None)
    assert all(same(item, path) for item in (a, b, c))
    with pytest.raises(AudioFileError, match="commands=True"):
        heard(d)
    assert torch.equal(heard(d, commands=True), heard(a))
    assert [item.id for item in listed(folder, part=(1, 2))] == ["utt-b", "utt-d"]


def test_a_kaldi_directory_with_segments(tmp_path: Path):
    path = recording(tmp_path / "a.wav", 1.0, channels=2)
    folder = kaldi(
        tmp_path / "data",
        wav_scp=f"rec {path}\n",
        segments="u1 rec 0.0 0.5\nu2 rec 0.25 0.75 1\nu3 rec 0.5 -1\n",
        text="u2 TWO\n",
    )
    one, two, three = listed(folder)
    assert (one.seconds, two.seconds, two.fields) == (0.5, 0.5, {"text": "TWO"})
    assert same(one, path, 0, 0.5)
    assert torch.equal(heard(two), Audio.load(path, start=0.25, end=0.75).samples[1:])
    assert same(three, path, 0.5)


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"wav_scp": "a\n"}, "nothing after it"),
        ({"wav_scp": "a a.wav\n", "segments": "u b 0 1\n"}, "of a known recording"),
        ({"wav_scp": "a a.wav\n", "segments": "u a 2 1\n"}, "cannot cut from 2.0 s to 1.0 s"),
        ({"wav_scp": "a a.wav\nb b.wav\n", "text": "b B\na A\n"}, "not sorted"),
    ],
)
def test_bad_kaldi_directories_are_one_line(tmp_path: Path, tables: dict[str, str], words: str):
    with pytest.raises(ListingError, match=words):
        listed(kaldi(tmp_path, **tables))


def tar(path: Path, members: dict[str, bytes], mode: Any = "w") -> Path:
    with tarfile.open(path, mode) as file:
        for name, data in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(data)
            file.addfile(about, io.BytesIO(data))
    return path


@pytest.mark.parametrize("packed", [False, True])
def test_webdataset(tmp_path: Path, packed: bool):
    suffix, mode = (".tar.gz", "w:gz") if packed else (".tar", "w")
    for i in range(3):
        members = {f"d/{i}-{j}.flac": flac(10 * i + j) for j in range(2)}
        members |= {f"d/{i}-0.json": b'{"speaker": "s", "duration": 0.2}', f"d/{i}-1.txt": b"hm\n"}
        tar(tmp_path / f"shard-{i:03d}{suffix}", dict(sorted(members.items())), mode)
    items = listed(f"{tmp_path}/shard-{{000..002}}{suffix}")
    assert [item.id for item in items] == ["d/0-0", "d/0-1", "d/1-0", "d/1-1", "d/2-0", "d/2-1"]
    assert items[0].fields == {"speaker": "s", "duration": 0.2}
    assert items[0].seconds == 0.2
    assert items[1].fields == {"text": "hm"}
    for item in items:
        wave, _ = soundfile.read(
            io.BytesIO(flac(int(item.id[2]) * 10 + int(item.id[4]))), dtype="float32"
        )
        assert (heard(item)[0].numpy() == wave).all()
    if not packed:
        assert [i.id for i in listed(tmp_path)] == [i.id for i in items]
        assert [i.id for i in listed(tmp_path, part=(1, 3))] == ["d/1-0", "d/1-1"]  # whole files
        one = tmp_path / "shard-001.tar"
        assert [i.id for i in listed(one, part=(1, 2))] == ["d/1-1"]  # too few files: each second
        one.write_bytes(one.read_bytes()[:700])
        with pytest.raises(ListingError, match=r"shard-001.tar: damaged"):
            listed(one)


def members(*names: str) -> dict[str, bytes]:
    """Audio of its own for each name of audio, and for any other its name."""
    return {n: flac(i) if n.endswith("wav") else n.encode() for i, n in enumerate(names)}


WHOLE = ["x.wav", "x.txt", "d.e/y.WAV", "d.e/y.json", "__meta__.json", "._x.wav", ".h/z.wav", "no"]


@pytest.mark.filterwarnings("ignore")  # webdataset leaves files open
@pytest.mark.parametrize("before", ["", "./", "a/./"])
def test_names_are_parted_as_webdataset_does(tmp_path: Path, before: str):
    given = {before + n: d for n, d in members(*WHOLE).items()}
    given[before + "d.e/y.json"] = b'{"text": "why"}'
    path = tar(tmp_path / "s.tar", given)
    items = [item for item in listed(path) if not item.locator.error]
    assert [item.id for item in items] == [f"{before}{n}" for n in ("x", "d.e/y", ".h/z")]
    assert [item.fields.get("text") for item in items] == ["x.txt", "why", None]
    assert torch.equal(heard(items[2]), heard(Recording("", AudioLocator("x", data=flac(6)))))
    webdataset = pytest.importorskip("webdataset")
    samples = list(webdataset.WebDataset(str(path), shardshuffle=False))
    assert [s["__key__"] for s in samples] == [item.id for item in listed(path)]
    assert [s["wav"] for s in samples if "wav" in s] == [given[i.locator.name[6:]] for i in items]


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("a.wav b.wav a.txt b.txt", r"/a.txt: stands apart from the other members of sample `a`"),
        ("talk_12.5.wav talk_12.7.wav", r"`talk_12` has 2 audio members \(5.wav, 7.wav\); say whi"),
        ("x.clean.wav x.noisy.wav x.txt", r"2 audio members \(clean.wav, noisy.wav\); say which"),
    ],
)
def test_archives_of_which_something_would_be_lost(
    tmp_path: Path, suffix: str, names: str, words: str
):
    path = tar(tmp_path / f"s{suffix}", members(*names.split()), "w:gz" if "gz" in suffix else "w")
    with pytest.raises(ListingError, match=words) as caught:
        listed(path)
    assert str(caught.value).startswith(str(path))


def test_which_member_is_the_audio_may_be_said(tmp_path: Path):
    names = "x.clean.txt x.clean.wav x.noisy.txt x.noisy.wav x.txt y.clean.wav y.txt z.noisy.wav"
    path = tar(tmp_path / "s.tar", members(*names.split()))
    for audio in ("clean.wav", "clean"):
        x, y, z = listed(path, audio=audio)
        assert torch.equal(heard(x), heard(Recording("", AudioLocator("x", data=flac(1)))))
        assert (x.fields, y.fields) == ({"text": "x.clean.txt"}, {"text": "y.txt"})
        with pytest.raises(
            AudioFileError, match=f"no audio `{audio}` in this sample, only z.noisy"
        ):
            heard(z)


def test_a_sample_that_cannot_be_read_is_an_error_and_the_rest_go_on(tmp_path: Path):
    given = members(
        "a.wav", "a.txt", "b.txt", "c.wav", "c.json", "d.wav", "d.txt", "e.wav", "e.lab"
    )
    given |= {"c.json": b"{", "d.txt": b"\xff", "e.lab": b"0 105000 sil\n105000 23000 t\n"}
    a, b, c, d, e = listed(tar(tmp_path / "s.tar", given))
    assert (a.fields, e.fields) == ({"text": "a.txt"}, {})
    for item, words in (
        (b, r"^s.tar/b: no audio in this sample, only b.txt$"),
        (c, r"^s.tar/c.wav: c.json: not JSON"),
        (d, r"^s.tar/d.wav: d.txt is not UTF-8"),
    ):
        with pytest.raises(AudioFileError, match=words):
            heard(item)


def test_links_and_joined_and_damaged_archives(tmp_path: Path):
    path = tmp_path / "links.tar"
    recording(tmp_path / "x.wav", 0.1)
    with tarfile.open(path, "w") as file:
        file.add(tmp_path / "x.wav", "x.wav")
        link = tarfile.TarInfo("y.wav")
        link.type, link.linkname = tarfile.SYMTYPE, "x.wav"
        file.addfile(link)
    x, y = listed(path)
    assert same(x, tmp_path / "x.wav")
    with pytest.raises(AudioFileError, match=r"y.wav: a link, without the file"):
        heard(y)
    one, two = (tar(tmp_path / f"{n}.tar", members(f"{n}.wav")).read_bytes() for n in "pq")
    (tmp_path / "joined.tar").write_bytes(one + two)
    assert [item.id for item in listed(tmp_path / "joined.tar")] == ["p", "q"]
    header = bytearray(tar(tmp_path / "r.tar", members("p.wav", "q.wav")).read_bytes())
    header[header.index(b"q.wav")] ^= 1
    (tmp_path / "r.tar").write_bytes(header)
    with pytest.raises(ListingError, match=r"r.tar: damaged, or not a tar file \(a header"):
        listed(tmp_path / "r.tar")


def test_parquet(tmp_path: Path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    clips = [flac(i) for i in range(40)]
    plain = arrow.table({"id": [f"n{i}" for i in range(40)], "wav": clips, "text": ["t"] * 40})
    parquet.write_table(plain, tmp_path / "plain.parquet", row_group_size=7)
    items = listed(tmp_path / "plain.parquet")
    assert [item.id for item in items] == [f"n{i}" for i in range(40)]
    assert items[3].fields == {"text": "t"}
    assert torch.equal(
        heard(items[39]), heard(Recording("", AudioLocator("x.flac", data=clips[39])))
    )
    path = recording(tmp_path / "there.wav")
    audio = [{"bytes": clips[0], "path": "a.flac"}, {"bytes": None, "path": str(path)}]
    parquet.write_table(arrow.table({"audio": audio, "n": [1, 2]}), tmp_path / "hf.parquet")
    first, second = listed(tmp_path / "hf.parquet")
    assert (first.id, first.fields) == ("a.flac", {"n": 1})
    assert same(second, path)
    assert len(listed(tmp_path)) == 42
    parquet.write_table(arrow.table({"n": [1]}), tmp_path / "none.parquet")
    with pytest.raises(ListingError, match=r"no column of audio bytes, only n \(int64\)"):
        listed(tmp_path / "none.parquet")


PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(20)


def columns(path: Path, rows: int = 2, **values: Any) -> Path:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({k: [v] * rows for k, v in values.items()}), path)
    return path


def test_which_column_of_parquet_is_the_audio(tmp_path: Path):
    one, two, path = flac(1), flac(2), tmp_path / "t.parquet"
    columns(path, clean=one, audio={"bytes": two, "path": "n.flac"})
    with pytest.raises(ListingError, match=r"2 columns may be the audio \(clean, audio\); say whi"):
        listed(path)
    for name, data in (("clean", one), ("audio", two)):
        item = listed(path, audio=name)[0]
        assert torch.equal(heard(item), heard(Recording("", AudioLocator("x", data=data))))
    with pytest.raises(ListingError, match=r"no column `noisy` of audio bytes, only clean \(bin"):
        listed(path, audio="noisy")
    for picture in (PICTURE, {"bytes": PICTURE, "path": None}, {"bytes": None, "path": "a.JPG"}):
        columns(path, image=picture, sound=one)
        assert [i.locator.data for i in listed(path)] == [one, one]
        columns(path, audio=picture, text="t")
        with pytest.raises(ListingError, match=r"no column of audio bytes, only audio .*text"):
            listed(path)
    columns(path, audio="a.wav")
    with pytest.raises(ListingError, match=r"no column of audio bytes, only audio \(string\)$"):
        listed(path)


def test_what_hugging_face_declares_is_taken(tmp_path: Path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    sound = {"bytes": flac(1), "path": "a"}
    table = arrow.table({"raw": [b"???"], "mel": [{"bytes": PICTURE}], "speech": [sound]})
    features = {"raw": {"_type": "Value"}, "mel": {"_type": "Image"}, "speech": {"_type": "Audio"}}
    note = json.dumps({"info": {"features": features}})
    table = table.replace_schema_metadata({"huggingface": note})
    parquet.write_table(table, tmp_path / "t.parquet")
    assert listed(tmp_path / "t.parquet")[0].locator.data == sound["bytes"]


def test_ids_of_rows(tmp_path: Path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path, sound = tmp_path / "t.parquet", {"bytes": flac(1), "path": "audio.wav"}
    parquet.write_table(arrow.table({"id": [0, 1, None], "audio": [sound] * 3}), path)
    assert [item.id for item in listed(path)] == ["0", "1", "audio.wav"]
    columns(path, 3, audio=sound)  # whose names tell nothing apart
    assert [item.id for item in listed(path)] == ["t.parquet#0", "t.parquet#1", "t.parquet#2"]
    assert {item.locator.name for item in listed(path)} == {"audio.wav"}


def test_what_rows_hold_is_carried_through_as_json(tmp_path: Path):
    when = datetime.datetime(2024, 5, 6, tzinfo=datetime.timezone.utc)
    path = columns(
        tmp_path / "t.parquet", 1, audio={"bytes": flac(1), "path": None}, at=when, sentence="so",
        score=float("nan"), pay=decimal.Decimal("1.5"), tags=["a", "b"], nested={"deep": [0]},
        seconds=0.2, client_id="me", image={"bytes": PICTURE, "path": "p.png"},
    )  # fmt: skip
    (item,) = listed(path)
    assert json.loads(json.dumps(item.fields, allow_nan=False)) == {
        "at": "2024-05-06T00:00:00+00:00", "text": "so", "pay": "1.5", "tags": ["a", "b"],
        "nested": {"deep": [0]}, "seconds": 0.2, "speaker": "me",
    }  # fmt: skip
    assert item.seconds == 0.2
    columns(path, 1, audio={"bytes": b"", "path": None})
    with pytest.raises(AudioFileError, match=r"t.parquet#0: `audio` is empty"):
        heard(listed(path)[0])


def test_lhotse_cuts(tmp_path: Path):
    lhotse = pytest.importorskip("lhotse")
    path = recording(tmp_path / "a.wav", 2.0, channels=1)
    whole = lhotse.Recording.from_file(path)
    said = lhotse.SupervisionSegment("s", whole.id, 0.5, 1.0, text="oh", speaker="me")
    cut = lhotse.MonoCut("c0", 0.0, 2.0, 0, supervisions=[said], recording=whole)
    cuts = [cut, cut.truncate(offset=0.5, duration=1.0).with_id("c1")]
    cuts += [cut.with_id("c2").perturb_speed(1.1).with_id("c3"), cut.pad(3.0).with_id("c4")]
    lhotse.CutSet.from_cuts(cuts).to_file(tmp_path / "cuts.jsonl.gz")
    items = listed(tmp_path / "cuts.jsonl.gz")
    assert [item.id for item in items] == ["c0", "c1", "c3", "c4"]
    assert items[0].fields == {"text": "oh", "speaker": "me"}
    for item, cut in zip(items, cuts, strict=True):
        assert np.allclose(heard(item).numpy(), cut.load_audio(), atol=1e-6)
    assert same(items[1], path, 0.5, 1.5)


@pytest.mark.parametrize("way", ["saved", "streamed"])
def test_hugging_face_datasets(tmp_path: Path, way: str):
    datasets = pytest.importorskip("datasets")
    audio = [{"bytes": flac(i), "path": f"{i}.flac"} for i in range(5)]
    made = datasets.Dataset.from_dict({"audio": audio, "text": list("abcde")})
    made = made.cast_column("audio", datasets.Audio(decode=False))
    if way == "saved":
        made.save_to_disk(tmp_path / "saved")
        items = listed(tmp_path / "saved")
    else:
        (tmp_path / "data").mkdir()
        made.to_parquet(tmp_path / "data" / "train-00000.parquet")
        items = listed(f"hf:{tmp_path / 'data'}@train")
    assert [(item.id, item.fields) for item in items] == [
        (f"{i}.flac", {"text": "abcde"[i]}) for i in range(5)
    ]
    wave, _ = soundfile.read(io.BytesIO(flac(4)), dtype="float32")
    assert (heard(items[4])[0].numpy() == wave).all()


def test_columns_and_ids_of_hugging_face_datasets(tmp_path: Path):
    datasets = pytest.importorskip("datasets")
    one, two = flac(1), flac(2)

    def saved(name: str, rows: int = 2, **columns: Any) -> Path:
        made = datasets.Dataset.from_dict({key: [value] * rows for key, value in columns.items()})
        made.save_to_disk(tmp_path / name)
        return tmp_path / name

    sound = {"bytes": one, "path": "x.flac"}
    plain = saved("plain", audio=sound, image={"bytes": PICTURE, "path": None}, id=0, sentence="so")
    item = listed(plain)[0]  # of no type Audio: what holds bytes, and is no picture
    assert (item.id, item.fields, item.locator.data) == ("0", {"text": "so"}, one)
    with pytest.raises(ListingError, match=r"no column of audio bytes, only audio \(string\)$"):
        listed(saved("text", audio="a.wav"))
    path = saved("both", clean=one, noisy=two)
    with pytest.raises(ListingError, match=r"2 columns may be the audio \(clean, noisy\)"):
        listed(path)
    assert listed(path, audio="noisy")[1].locator.data == two


def test_channels_that_are_not_there(tmp_path: Path):
    recording(tmp_path / "a.wav", 0.1, channels=2)
    with pytest.raises(AudioFileError, match=r"^a: has 2 channels, and number 3 is wanted"):
        heard(Recording("a", AudioLocator("a", str(tmp_path / "a.wav"), channel=2)))


# ---- behind URLs


def test_any_file_system_of_fsspec(tmp_path: Path):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    path = recording(tmp_path / "a.wav", 0.3)
    for name in ("b/2.wav", "b/1.wav", "b/.x.wav"):
        memory.pipe(f"/bucket/{name}", path.read_bytes())
    memory.pipe("/bucket/m.jsonl", b'{"path": "b/1.wav", "start": 0.1}\n')
    memory.pipe("/bucket/t.tar", tar(tmp_path / "t.tar", {"k.flac": flac(1)}).read_bytes())
    one, two = listed("memory://bucket/b/")
    assert (one.id, two.id) == ("1.wav", "2.wav")
    assert same(one, path)
    assert same(listed("memory://bucket/m.jsonl")[0], path, 0.1)
    assert listed("memory://bucket/t.tar")[0].id == "k"
    with pytest.raises(AudioFileError, match="no such file"):
        heard(Recording("x", AudioLocator("x", "memory://bucket/none.wav")))
    with pytest.raises(ListingError, match="no such file"):
        listed("memory://bucket/none.jsonl")


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An S3-compatible server on this machine; its address."""
    server = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=port)
    running.start()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    yield f"http://127.0.0.1:{port}"
    running.stop()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_corpus_of_what_lies_in_s3_is_that_of_the_disk(tmp_path: Path, s3: str):
    import s3fs  # pyright: ignore[reportMissingImports]

    system = s3fs.S3FileSystem(endpoint_url=s3)
    system.mkdir("speech")
    for i in range(6):
        path = recording(tmp_path / "in" / f"{i}.wav", 0.2 + 0.1 * i, seed=i)
        system.put(str(path), f"speech/in/{i}.wav")
    system.pipe("speech/in/bad.wav", b"no audio")
    (tmp_path / "in" / "bad.wav").write_bytes(b"no audio")
    for source, out in (("s3://speech/in/", "there"), (str(tmp_path / "in"), "here")):
        options = ["--codec", small(), "-j", "2", "--most-bad", "1"]
        done = audiotok("corpus", "build", source, "-o", tmp_path / out, *options)
        assert done.code == 0, done.err
    there, here = Corpus(tmp_path / "there"), Corpus(tmp_path / "here")
    assert there.info.shards == here.info.shards
    assert len(there) == 6
    files = [folder / "quarantine.tsv" for folder in (there.path, here.path)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_digests_in_builds_of_earlier_versions_stay_valid():
    locator = AudioLocator("a.wav", "/x/a.wav", start=1.5, end=2.0, channel=1, offset=7, data=b"xx")
    full = Recording("a", locator, {"text": "it's", "speaker": 3, "n": None}, 2.0)
    bare = Recording("b", AudioLocator("b"))
    assert digest_of(full).hex() == "7526b47c3c447ce0"
    assert digest_of(bare).hex() == "0c2422d9564fb3c5"
