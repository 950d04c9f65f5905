"""Examples in docstrings run."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path
from typing import Any

import pytest

import audiotok

ROOT = Path(__file__).parents[2]
MODULES = [
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for file in sorted((ROOT / "audiotok").rglob("*.py"))
    if ">>> " in file.read_text("utf-8")
]


class _Lenient(doctest.OutputChecker):
    """An example that states no output may print any; one that fails still fails."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        return not want or super().check_output(want, got, optionflags)


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the examples take for granted, in a folder with the files that they name."""
    monkeypatch.chdir(tmp_path)
    audio = audiotok.Audio.load(ROOT / "egs/data/reading.flac")
    audio.save("in.wav")
    return {"audiotok": audiotok, "audio": audio}


@pytest.mark.parametrize("module", MODULES)
def test_examples(module: str, names: dict[str, Any]):
    known = importlib.import_module(module)
    runner = doctest.DocTestRunner(_Lenient(), optionflags=doctest.ELLIPSIS)
    found = [t for t in doctest.DocTestFinder().find(known, module) if t.examples]
    assert found
    for test in found:
        test.globs.update(names)
        report: list[str] = []
        runner.run(test, out=report.append)
        assert not runner.failures, "".join(report)
