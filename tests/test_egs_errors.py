"""Scripts of egs/: an error is one line on stderr and an exit code, as of a command."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from unittest import mock

import pytest

EGS = Path(__file__).parents[1] / "egs"


def ended(script: str, *arguments: str) -> int:
    """Run a script in this process, and return its exit code."""
    path = str(EGS / f"{script}.py")
    with (
        mock.patch.object(sys, "argv", [path, *arguments]),
        pytest.raises(SystemExit) as end,
    ):
        runpy.run_path(path, run_name="__main__")
    if isinstance(end.value.code, str):  # Python prints a text, and exits with 1
        print(end.value.code, file=sys.stderr)
        return 1
    return end.value.code or 0


def test_a_refused_recipe_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    recipe = tmp_path / "arm.toml"
    recipe.write_text('codec = "speech"\nnothing = 1\n')
    options = ["--data", "speech.tsv", "--metrics", "pesq"]
    assert ended("run_arms", str(tmp_path), "--arm", f"a={recipe}", *options) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error {recipe}: ")
    assert "nothing" in line


def test_arms_that_cannot_be_scored_end_as_bench_does(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    data = str(tmp_path / "nowhere.tsv")
    assert ended("run_arms", str(tmp_path), "--data", data, "--metrics", "pesq") == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error ")


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("distillation_twins", ["nowhere.tsv", "a.safetensors", "b.safetensors"]),
        ("distill_your_own", ["nowhere.tsv", "out"]),
        ("mix_decoders", ["a.safetensors", "b.safetensors", "0.5", "c.safetensors"]),
        ("mix_decoders", ["a.safetensors", "b.safetensors", "half", "c.safetensors"]),
        ("pack_speech", ["nowhere.tsv", "out.tar"]),
        ("train_units", ["write", "nowhere", "out.safetensors"]),
        ("what_limits", ["nowhere.tsv"]),
        ("what_quantizing_costs", ["nowhere.tsv"]),
    ],
)
def test_what_is_not_there_is_one_line(
    script: str,
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    assert ended(script, *arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error ")


@pytest.mark.parametrize("script", ["distill_your_own", "mix_decoders", "pack_speech"])
def test_without_arguments_the_usage_is_shown(script: str, capsys: pytest.CaptureFixture[str]):
    assert ended(script) == 1
    assert f"python egs/{script}.py" in capsys.readouterr().err
