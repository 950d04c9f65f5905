"""The wheel holds all that a user needs: the demo runs from it, away from the checkout, offline."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from sysconfig import get_path

import pytest

import audiotok

ROOT = Path(__file__).parents[1]
# Run by Python as it starts: no socket of the process, or of its children, leaves the machine.
BLOCK = """
import socket

def refuse(*arguments):
    raise PermissionError("the demo uses no network")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
"""


def _run(*command: str | Path, folder: Path, **environment: str) -> str:
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env={**{k: v for k, v in os.environ.items() if k != "PYTHONPATH"}, **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel, built from a copy so that nothing is left in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "audiotok", folder / "source/audiotok")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    _run(
        *pip, "wheel", "--no-deps", "--no-build-isolation", "-w", "dist", "./source", folder=folder
    )
    return next((folder / "dist").glob("*.whl"))


@pytest.mark.slow
def test_the_wheel_has_every_file(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("audiotok/")}
    files = (path for path in (ROOT / "audiotok").rglob("*") if path.is_file())
    kept = {str(path.relative_to(ROOT)) for path in files if "__pycache__" not in path.parts}
    assert packed == kept


@pytest.mark.slow
def test_the_demo_runs_from_the_wheel_offline(wheel: Path, tmp_path: Path):
    _run(sys.executable, "-m", "venv", "--without-pip", "clean", folder=tmp_path)
    python = tmp_path / "clean/bin/python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index"]
    _run(*pip, wheel, folder=tmp_path)
    # The libraries of this environment, after the wheel; .pth files there, which would add the
    # checkout, are not read.
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = tmp_path / "clean/lib" / version / "site-packages"
    (site / "libraries.pth").write_text(get_path("purelib"), "utf-8")
    (site / "sitecustomize.py").write_text(BLOCK, "utf-8")
    shutil.copy(ROOT / "egs/data/reading.flac", tmp_path)

    where = _run(python, "-c", "import audiotok; print(audiotok.__file__)", folder=tmp_path)
    assert where.startswith(str(site))
    with pytest.raises(AssertionError, match="the demo uses no network"):
        _run(
            python, "-c", "import socket; socket.create_connection(('a.test', 80))", folder=tmp_path
        )
    _run(
        tmp_path / "clean/bin/audiotok", "roundtrip", "reading.flac", "-o", "demo", folder=tmp_path
    )
    made = {path.name for path in (tmp_path / "demo").iterdir()}
    assert {"reading.tok", "reading.wav", "reading.png"} <= made


def test_every_file_has_the_same_version():
    project = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.M)
    citation = re.search(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text("utf-8"), re.M)
    assert project
    assert citation
    assert project[1] == citation[1] == audiotok.__version__
