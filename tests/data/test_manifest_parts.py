"""Rows of a manifest that mean a part of their file, rows that mean all of it, and nonsense."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from commandline import audiotok, recording

from audiotok.data.manifest import listing_of, read_manifest


def table(folder: Path, row: dict[str, Any], suffix: str) -> Path:
    path = folder / f"m{suffix}"
    good = {"path": "a.wav"}
    if suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, (good, good | row))))
    else:
        header = "\t".join(good | row)
        path.write_text(f"{header}\na.wav\na.wav\t" + "\t".join(map(str, row.values())))
    return path


@pytest.mark.parametrize("suffix", [".tsv", ".jsonl"])
@pytest.mark.parametrize(
    ("row", "stretch"),
    [
        ({"start": 0.25, "end": 0.5}, (0.25, 0.5, None)),
        ({"start": 0, "end": 0.5}, (0.0, 0.5, None)),
        ({"offset": 1.5, "duration": 2}, (1.5, 3.5, None)),
        ({"offset": 0, "duration": 2}, (0.0, 2.0, None)),
        ({"start": "0.5"}, (0.5, None, None)),
        ({"channel": 0}, (0.0, None, 0)),
        ({"start": 0, "end": "", "channel": ""}, None),
        ({"offset": 0.0}, None),
        ({"duration": 2}, None),
        ({"channels": 2, "seconds": 1.0}, None),
    ],
)
def test_a_row_means_a_part_of_its_file_or_all(
    tmp_path: Path, row: dict[str, Any], stretch: tuple[Any, ...] | None, suffix: str
):
    whole, part = read_manifest(table(tmp_path, row, suffix))
    assert whole.locator.stretch is None
    assert part.locator.stretch == stretch
    assert part.is_file == (stretch is None)
    if stretch is not None:
        with pytest.raises(ValueError, match=r"a\.wav.*: is not a whole file of this machine"):
            _ = part.path


@pytest.mark.parametrize("suffix", [".tsv", ".jsonl"])
@pytest.mark.parametrize(
    "row", [{"channel": -1}, {"start": "soon"}, {"start": "nan"}, {"start": 2, "end": 1}]
)
def test_a_row_that_means_no_part_of_a_file(tmp_path: Path, row: dict[str, Any], suffix: str):
    path = table(tmp_path, row, suffix)
    line = 3 if suffix == ".tsv" else 2
    with pytest.raises(ValueError, match=rf"^{path}, line {line}: .*(not a n|cannot cut from 2 )"):
        read_manifest(path)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("[" * 100_000, "nested more than 100 levels deep"),
        ('{"path": "a.wav", "seconds": 1e400}', "1e400 is beyond the largest number"),
        ('{"path": "a.wav", "seconds": NaN}', "NaN is not a number"),
        ('{"path": "a.wav", "seconds": ' + "9" * 5000 + "}", "a number of 5000 digits"),
        ('{"path": "a.wav", "text": "a", "text": "b"}', 'the key "text" stands twice'),
    ],
)
def test_json_that_python_would_take_or_break_on_is_told(tmp_path: Path, line: str, words: str):
    path = tmp_path / "m.jsonl"
    path.write_text('{"path": "a.wav"}\n' + line)
    with pytest.raises(ValueError, match=rf"\A{path}, line 2: .*{words}.{{,60}}\Z"):
        read_manifest(path)


def test_audio_is_no_manifest_and_nobody_is_sent_to_iconv(tmp_path: Path):
    path = recording(tmp_path / "x.flac", 1.0)
    words = r"x\.flac: is audio, not a list of recordings; name the folder it is in"
    with pytest.raises(ValueError, match=words):
        read_manifest(path)
    with pytest.raises(ValueError, match=words):
        list(listing_of(str(path), "table").items(str(path)))
    recipe = tmp_path / "r.toml"
    recipe.write_text(f'codec = "speech"\n[data]\nmanifest = "{path}"\n[loss]\nmel = 1.0\n')
    done = audiotok("train", recipe, "--out", tmp_path / "out")
    assert done.code != 0
    assert "is audio, not a list of recordings" in " ".join(done.err.split())


def test_ids_that_stand_twice_are_told_and_none_is_dropped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    path = tmp_path / "m.tsv"
    path.write_text("path\tid\na.wav\tx\nb.wav\tx\nc.wav\ty\n")
    assert [each.id for each in read_manifest(path)] == ["x", "x", "y"]
    (line,) = caplog.messages
    assert line.startswith(f"{path}: ids must differ, and 1 stand there more than once (x)")
