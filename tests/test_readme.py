"""Every block of code in README runs as it stands."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from audiotok.audio.audio import Audio

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```(python|bash)\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in which README's names stand for the recording of the repository."""
    (tmp_path / "recordings").mkdir()
    for place in (tmp_path, tmp_path / "recordings"):
        shutil.copy(ROOT / "egs/data/reading.flac", place)
    audio = Audio.load(ROOT / "egs/data/reading.flac")
    for i in range(9):
        audio[i * audio.rate : (i + 1) * audio.rate].save(tmp_path / f"recordings/{i}.wav")
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    return tmp_path


def _run(command: list[str], folder: Path) -> str:
    binaries = str(Path(sys.executable).parent)
    path = os.pathsep.join([binaries, os.environ["PATH"]])
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_readme_opens_with_the_two_commands():
    first = BLOCKS[0][1]
    assert [line.split("#")[0].strip() for line in first.splitlines()] == ["make demo", "make test"]


@pytest.mark.parametrize("code", [code for kind, code in BLOCKS if kind == "python"])
def test_python_block(code: str, folder: Path):
    # As a person would run it: in a process of its own, warnings are errors.
    _run([sys.executable, "-W", "error", "-c", code], folder)


def test_shell_block(folder: Path):
    blocks = [code for kind, code in BLOCKS if kind == "bash" and "make demo" not in code]
    assert blocks
    for code in blocks:
        _run(["bash", "-euo", "pipefail", "-c", code], folder)
    assert (folder / "decoded/reading.flac").stat().st_size > 0
    assert (folder / "heard/reading.png").stat().st_size > 0
