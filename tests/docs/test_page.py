"""Every block of code in README and docs runs as it stands; see `page`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import page
import pytest

from audiotok.audio.audio import Audio

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXTS = {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in PAGES}
BLOCKS = {name: page.blocks(text) for name, text in TEXTS.items()}
# However a fence is written: indented, of tildes, or as a directive.
ANY_FENCE = re.compile(
    r"^\s*(?:```+|~~~+|:::+) *(?:\{[\w-]+\} *)?(python|bash|py|sh|shell)\b", re.M
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in which the names of the pages stand for the recording of the repository."""
    (tmp_path / "recordings").mkdir()
    for place in (tmp_path, tmp_path / "recordings"):
        shutil.copy(ROOT / "egs/data/reading.flac", place)
    audio = Audio.load(ROOT / "egs/data/reading.flac")
    for i in range(9):
        audio[i * audio.rate : (i + 1) * audio.rate].save(tmp_path / f"recordings/{i}.wav")
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    return tmp_path


def _read(path: Path, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the blocks of a page in a process of its own, in which warnings are errors."""
    binaries = str(Path(sys.executable).parent)
    return subprocess.run(
        [sys.executable, "-W", "error", page.__file__, str(path), *options],
        cwd=folder,
        env={**os.environ, "PATH": os.pathsep.join([binaries, os.environ["PATH"]])},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )


def test_readme_opens_with_the_two_commands():
    first = re.search(r"```bash\n(.*?)```", TEXTS["README.md"], re.DOTALL)
    assert first
    commands = [line.split("#")[0].strip() for line in first[1].splitlines()]
    assert commands == ["make demo", "make test"]
    assert TEXTS["README.md"].count("\n") <= 150


@pytest.mark.parametrize(
    "name", [n for n, blocks in BLOCKS.items() if any(not b.slow for b in blocks)]
)
def test_blocks(name: str, folder: Path):
    done = _read(ROOT / name, folder)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n, blocks in BLOCKS.items() if any(b.slow for b in blocks)])
def test_slow_blocks(name: str, folder: Path):
    done = _read(ROOT / name, folder, "--slow")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", TEXTS)
def test_no_block_is_overlooked(name: str):
    fences = len(ANY_FENCE.findall(TEXTS[name]))
    assert fences == len(page.BLOCK.findall(TEXTS[name])), "write it as ```python or ```bash"


PAGE = """
```python
a = 1
```
% continued
```python
print(a)
```
```bash
echo b
```
<!-- slow -->
```bash
echo c
```
```bash
make demo   # not run
make test
```
```console
$ audiotok mic
```
"""


def test_what_runs(tmp_path: Path):
    (tmp_path / "page.md").write_text(PAGE, "utf-8")
    assert _read(tmp_path / "page.md", tmp_path).stdout.split() == ["1", "b"]
    kinds = [(b.kind, b.line, b.slow, b.continued) for b in page.blocks(PAGE)]
    assert kinds == [
        ("python", 3, False, False),
        ("python", 7, False, True),
        ("bash", 10, False, False),
        ("bash", 14, True, False),
    ]


@pytest.mark.parametrize(
    "code", ["bash\nfalse | true", "python\n1 / 0", "python\nraise SystemExit"]
)
def test_a_block_that_fails_is_named(code: str, tmp_path: Path):
    (tmp_path / "page.md").write_text(f"\n```{code}\n```\n", "utf-8")
    done = _read(tmp_path / "page.md", tmp_path)
    kind = code.partition("\n")[0]
    assert done.returncode == 1
    assert done.stderr.endswith(f"page.md:3: this {kind} block failed\n")


def test_names_are_not_shared_unless_it_says_so(tmp_path: Path):
    (tmp_path / "page.md").write_text(PAGE.replace("% continued\n", ""), "utf-8")
    assert "NameError" in _read(tmp_path / "page.md", tmp_path).stderr
