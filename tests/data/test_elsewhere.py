"""Recordings for processes elsewhere: absolute paths, and containers that are listed unread."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from commandline import recording
from test_commands import mixed as mix
from test_sources import flac, heard, kaldi, listed, tar
from test_sources_lhotse import cut

from audiotok.audio.audio import AudioFileError
from audiotok.data.failures import may_be_transient, missing_here, reason
from audiotok.data.locator import AudioLocator, absolute_path
from audiotok.data.manifest import listing_of
from audiotok.data.recording import Recording, digest_of
from audiotok.data.sources import huggingface


def everywhere(item: Recording, monkeypatch: pytest.MonkeyPatch, folder: Path) -> torch.Tensor:
    """Samples of a recording that was made absolute, read in another working directory."""
    there = item.absolute()
    assert (there.id, there.name, there.columns()) == (item.id, item.name, item.columns())
    assert digest_of(there) == digest_of(item)
    assert there.locator.as_listed() == item.locator
    assert there.absolute("/elsewhere") == there
    folder.mkdir(exist_ok=True)
    with monkeypatch.context() as patch:
        patch.chdir(folder)
        return heard(there, commands=True)


def sources(folder: Path) -> dict[str, Recording]:
    """A recording of each kind of locator, in relative paths from the folder."""
    recording(folder / "in" / "a.wav", 0.3)
    whole = (folder / "in" / "a.wav").read_bytes()
    kaldi(folder / "k", **{"wav.scp": "b cat in/a.wav |\nc in/joined:5\n"})
    (folder / "in" / "joined").write_bytes(b"12345" + whole)
    (folder / "m.jsonl").write_text(json.dumps({"path": "in/a.wav", "start": 0.1}))
    tar(folder / "t.tar", {"x.flac": flac(1), "y.flac": flac(2)})
    one = cut(Path("in/a.wav"), duration=0.2, start=0.05)
    mixed = mix(one, one)
    (folder / "c.jsonl").write_text(json.dumps(one))
    (folder / "mixed.jsonl").write_text(json.dumps(mixed))
    command, offset = listed("k")
    return {
        "folder": listed("in")[0],
        "table": listed("m.jsonl")[0],
        "command": command,
        "offset": offset,
        "archive": listed("t.tar")[1],
        "cut": listed("c.jsonl")[0],
        "mixed": listed("mixed.jsonl")[0],
    }


@pytest.mark.parametrize(
    "kind", ["folder", "table", "command", "offset", "archive", "cut", "mixed"]
)
def test_absolute_recordings_are_the_same_in_every_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
):
    if kind == "mixed":
        pytest.importorskip("lhotse")
    monkeypatch.chdir(tmp_path)
    item = sources(tmp_path)[kind]
    here = heard(item, commands=True)
    assert torch.equal(everywhere(item, monkeypatch, tmp_path / "other folder"), here)


def test_what_is_absolute_or_no_path_stays(tmp_path: Path):
    for path in ("/a/b.wav", "s3://bucket/a.wav", "-"):
        locator = AudioLocator("a", path)
        assert locator.absolute("/x") is locator
    locator = AudioLocator("a", data=b"xx")
    assert locator.absolute("/x") is locator
    given = json.dumps(cut(tmp_path / "a.wav"), indent=1)
    assert AudioLocator("a", cut=given).absolute("/x").cut == given


def test_absolute_listings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "saved").mkdir()
    assert absolute_path("./a/../b/") == str(tmp_path / "b")
    assert absolute_path("shard-{000..099}.tar", "/x") == "/x/shard-{000..099}.tar"
    assert absolute_path("hf:saved@train") == f"hf:{tmp_path}/saved@train"
    for path in ("/a/b", "s3://bucket/a/b", "hf:owner/name:en@train"):
        assert absolute_path(path) == path


@pytest.mark.parametrize("kind", ["command", "cut", "mixed"])
def test_what_another_machine_cannot_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
):
    monkeypatch.chdir(tmp_path)
    item = sources(tmp_path)[kind]
    there = item.absolute(str(tmp_path / "not mounted")).locator
    with pytest.raises(AudioFileError) as raised:
        heard(replace(item, locator=there), commands=True)
    assert missing_here(there)
    assert may_be_transient(raised.value, there)
    there = item.absolute().locator
    assert not missing_here(there)
    (tmp_path / "in" / "a.wav").unlink()
    (tmp_path / "in" / "b.wav").write_bytes(b"")
    assert not missing_here(there)


@pytest.mark.parametrize("kind", ["file", "offset", "cut"])
def test_reasons_name_paths_as_they_are_listed(tmp_path: Path, kind: str):
    """A quarantine is the same wherever the worker ran."""
    mixed = mix(*[cut(Path("none.wav"), duration=0.2)] * 2)
    locator = {
        "file": AudioLocator("a", "none.wav"),
        "offset": AudioLocator("a", "none.wav", offset=3),
        "cut": AudioLocator("a", cut=json.dumps(mixed)),
    }[kind].absolute(str(tmp_path))
    with pytest.raises(AudioFileError) as raised:
        heard(Recording("a", locator))
    assert str(tmp_path) not in reason(raised.value, locator)


# ---- containers


def containers(folder: Path, kind: str) -> tuple[str, list[str]]:
    """A relative path of a listing of three containers with two recordings each; its files."""
    if kind == "huggingface":
        datasets: Any = pytest.importorskip("datasets")
        sounds = [{"bytes": flac(i), "path": None} for i in range(6)]
        data = datasets.Dataset.from_dict({"audio": sounds, "text": list("abcdef")})
        data.save_to_disk(folder / "in")
        return "in", ["in#0-2", "in#2-4", "in#4-6"]
    arrow: Any = pytest.importorskip("pyarrow")
    parquet: Any = pytest.importorskip("pyarrow.parquet")
    (folder / "in").mkdir()
    (folder / "in" / "x.flac").write_bytes(flac(9))
    for i in range(3):
        if kind == "webdataset":
            text = {f"{i}-{j}.txt": str(j).encode() for j in range(2)}
            audio = {f"{i}-{j}.flac": flac(2 * i + j) for j in range(2)}
            tar(folder / "in" / f"{i}.tar", dict(sorted((text | audio).items())))
        else:
            audio = [{"bytes": flac(i), "path": None}, {"bytes": None, "path": "in/x.flac"}]
            parquet.write_table(arrow.table({"audio": audio}), folder / "in" / f"{i}.parquet")
    suffix = "tar" if kind == "webdataset" else "parquet"
    return "in", [f"in/{i}.{suffix}" for i in range(3)]


@pytest.mark.parametrize("kind", ["webdataset", "parquet", "huggingface"])
def test_containers_one_by_one_are_the_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface, "ROWS", 2)
    path, files = containers(tmp_path, kind)
    source = listing_of(path)
    assert source.costly
    assert source.files(path) == files
    whole = list(source.items(path))
    assert [r for file in files for r in source.items_of(path, file)] == whole
    assert len(whole) == 6
    samples = [heard(each) for each in whole]
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    there = [r for f in files for r in source.absolute_items_of(path, f, str(tmp_path))]
    assert [each.locator.as_listed() for each in there] == [each.locator for each in whole]
    assert list(map(digest_of, there)) == list(map(digest_of, whole))
    assert [each.id for each in there] == [each.id for each in whole]
    assert all(map(torch.equal, map(heard, there), samples))


def test_parts_share_out_containers_where_there_are_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    path, files = containers(tmp_path, "webdataset")
    source = listing_of(path)
    assert source.files(path, (1, 2)) == files[1::2]
    assert [r.id for r in source.items(path, (1, 2))] == ["1-0", "1-1"]
    assert source.files(path, (1, 4)) == []  # parts of recordings
    assert [r.id for r in source.items(path, (1, 4))] == ["0-1", "2-1"]
    assert listing_of("in", "folder").files("in") == []
