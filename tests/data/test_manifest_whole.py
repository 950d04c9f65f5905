"""Where files are read whole, a manifest that means parts of them is refused; nonsense always."""

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
    ("row", "name"),
    [
        ({"start": 0.25, "end": 0.5}, "start"),
        ({"start": 0, "end": 0.5}, "end"),
        ({"offset": 1.5, "duration": 2}, "offset"),
        ({"offset": 0, "duration": 2}, "duration"),
        ({"channel": 0}, "channel"),
        ({"channel": -1}, "channel"),
        ({"start": "soon"}, "start"),
        ({"start": "nan"}, "start"),
    ],
)
def test_a_row_that_means_a_part_of_its_file_is_refused(
    tmp_path: Path, row: dict[str, Any], name: str, suffix: str
):
    path = table(tmp_path, row, suffix)
    line = 3 if suffix == ".tsv" else 2
    with pytest.raises(
        ValueError, match=rf"^{path}, line {line}: `{name}` is .*means a part of the file.*whole"
    ):
        read_manifest(path)


@pytest.mark.parametrize("suffix", [".tsv", ".jsonl"])
@pytest.mark.parametrize(
    "row",
    [
        {"start": 0, "end": "", "channel": ""},
        {"start": "0.0", "duration": 1.5},
        {"offset": 0.0},
        {"duration": 2},
        {"channels": 2, "seconds": 1.0},
    ],
)
def test_a_row_that_means_all_of_its_file_is_read(tmp_path: Path, row: dict[str, Any], suffix: str):
    assert len(read_manifest(table(tmp_path, row, suffix))) == 2


def test_train_and_bench_refuse_parts_of_files(tmp_path: Path):
    recording(tmp_path / "a.wav", 1.0)
    rows = [{"path": "a.wav", "split": s, "start": 0.25, "end": 0.5} for s in ("train", "dev")]
    path = tmp_path / "m.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    out = tmp_path / "out"
    bench = ["bench", "--codec", "noise:10", "--data", path, "--metrics", "si_sdr", "-o", out]
    recipe = tmp_path / "r.toml"
    recipe.write_text(f'codec = "speech"\n[data]\nmanifest = "{path}"\n[loss]\nmel = 1.0\n')
    for done in (audiotok(*bench), audiotok("train", recipe, "--out", out)):
        assert done.code != 0
        assert f"{path}, line 1: `start` is 0.25" in " ".join(done.err.split()), done.err


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
    with pytest.raises(ValueError, match=r"x\.flac: is audio, not a manifest; name the folder it"):
        read_manifest(path)
    with pytest.raises(ValueError, match=r"x\.flac: is audio, not a list of recordings"):
        listing_of(str(path))
    with pytest.raises(ValueError, match=r"x\.flac: is audio, not a list of recordings"):
        list(listing_of(str(path), "table").items(str(path)))
    recipe = tmp_path / "r.toml"
    recipe.write_text(f'codec = "speech"\n[data]\nmanifest = "{path}"\n[loss]\nmel = 1.0\n')
    done = audiotok("train", recipe, "--out", tmp_path / "out")
    assert done.code != 0
    assert "is audio, not a manifest" in " ".join(done.err.split())
