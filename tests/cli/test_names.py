"""Names of files that few programs expect: not UTF-8, emoji, control characters, dashes."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from commandline import audiotok, recording, small

from audiotok import Audio
from audiotok.evaluation import Results

LATIN = os.fsdecode(b"caf\xe9")  # as ISO 8859-1 has it
NAMES = [LATIN, "smile 😀", "a\x7fb", "two\nlines", "$x$ \\alpha", "-k"]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux alone")


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A recording, to be copied under other names: soundfile writes none that are not UTF-8."""
    return recording(tmp_path / "plain.wav", rate=8000)


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_files_of_any_name_are_encoded_and_decoded(name: str, odd: Path, tmp_path: Path):
    folder, weights = tmp_path / name, small()
    folder.mkdir()
    wav = Path(shutil.copy(odd, folder / f"{name}.wav"))
    for again in range(2):
        for words in (
            ["encode", folder, "-o", tmp_path / "tokens"],
            ["decode", tmp_path / "tokens", "-o", folder / "decoded"],
        ):
            done = audiotok(*words, "--codec", weights)
            assert (done.code, done.lines) == (0, [])
            assert ("skipped" in done.out) == bool(again)
    decoded = Audio.load(folder / "decoded" / f"{name}.wav")
    assert decoded.samples.shape == Audio.load(wav).resample(decoded.rate).samples.shape
    info = audiotok("info", wav, "--json")
    assert (info.code, info.json["samples"]) == (0, 4000)


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_files_of_any_name_are_drawn(name: str, odd: Path, tmp_path: Path):
    pytest.importorskip("matplotlib")
    wav = shutil.copy(odd, tmp_path / f"{name}.wav")
    done = audiotok("roundtrip", wav, "-o", tmp_path / name, "--codec", small())
    assert (done.code, done.lines) == (0, [])
    done = audiotok("plot", wav, "-o", tmp_path / f"{name}.svg")
    assert (done.code, done.lines) == (0, [])
    assert sorted(path.suffix for path in (tmp_path / name).iterdir()) == [".png", ".tok", ".wav"]


@pytest.mark.parametrize("name", NAMES[1:], ids=ascii)
def test_folders_of_any_name_are_scored(name: str, odd: Path, tmp_path: Path):
    folder, weights = tmp_path / name, small()
    folder.mkdir()
    shutil.copy(odd, folder / "a.wav")
    words = ["--codec", weights, "--metrics", "mel", "-o", tmp_path / "bench"]
    done = audiotok("bench", "--data", folder, *words)
    assert done.code == 0, done.err


def test_a_recording_whose_name_no_report_can_hold_is_left_out(odd: Path, tmp_path: Path):
    folder = tmp_path / "recordings"
    folder.mkdir()
    for name in (*map(str, range(10)), LATIN):
        shutil.copy(odd, folder / f"{name}.wav")
    words = ["--codec", small(), "--metrics", "mel", "--tasks", "codes", "-o", tmp_path / "bench"]
    done = audiotok("bench", "--data", folder, *words)
    assert done.code == 0
    assert "warning caf\\udce9.wav: the name is not UTF-8; rename it; left out" in done.lines
    assert len(Results.load(tmp_path / "bench/results.json").clips) == 10


def test_a_name_that_no_report_can_hold_is_refused(odd: Path, tmp_path: Path):
    folder = tmp_path / LATIN
    folder.mkdir()
    shutil.copy(odd, folder / "a.wav")
    words = ["--codec", small(), "--metrics", "mel", "-o", tmp_path / "bench"]
    done = audiotok("bench", "--data", folder, *words)
    assert done.code == 1
    (line,) = done.lines
    assert line.endswith("the name is not UTF-8; rename it")
