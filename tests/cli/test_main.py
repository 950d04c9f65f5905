"""The program before its commands: version, help everywhere, completion, and its start."""

from __future__ import annotations

import ast
import logging
import os
import platform
import re
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import typer
from commandline import COMMAND, audiotok, environment, recording, small

import audiotok as package
from audiotok.cli.console import as_options, encoding, set_up
from audiotok.cli.program import program
from audiotok.runtime.files import FileReport


def _paths(command: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the words of every command, those with commands of their own included."""
    command = command or typer.main.get_command(program())
    yield path
    for name, below in getattr(command, "commands", {}).items():
        yield from _paths(below, (*path, name))


PATHS = sorted(_paths())


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_version(option: str):
    done = audiotok(option)
    torch = metadata.version("torch")
    line = f"audiotok {package.__version__} (torch {torch}, Python {platform.python_version()})\n"
    assert (done.code, done.out, done.err) == (0, line, "")


def test_version_is_that_of_the_package():
    assert package.__version__ == metadata.version("audiotok")


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_help_by_a_letter(path: tuple[str, ...]):
    assert len(PATHS) > 30
    done = audiotok(*path, "-h")
    assert (done.code, done.err) == (0, "")
    assert f"Usage: {' '.join(['audiotok', *path])} " in done.out


@pytest.mark.parametrize(
    "path", [p for p in PATHS if any(p == q[:-1] for q in PATHS)], ids=" ".join
)
def test_a_program_without_a_command_shows_its_help(path: tuple[str, ...]):
    """As wrong usage: a script that forgot the command must not go on."""
    done = audiotok(*path)
    assert (done.code, done.err) == (2, "")
    assert done.out.strip() == audiotok(*path, "-h").out.strip()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_shown_for_the_shell(shell: str):
    with mock.patch("shellingham.detect_shell", return_value=(shell, f"/bin/{shell}")):
        done = audiotok("--show-completion")
    assert done.code == 0
    assert "_AUDIOTOK_COMPLETE=complete_" in done.out


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("audiotok enc", ["encode"]),
        ("audiotok corpus co", ["compress"]),
        ("audiotok encode --cod", ["--codec", "--codebooks"]),
    ],
)
def test_completion(words: str, offered: list[str]):
    asked = {
        "_AUDIOTOK_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
    }
    done = subprocess.run(
        COMMAND, env={**environment(), **asked}, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == offered
    assert not done.stderr


def test_completion_as_bash_runs_it(tmp_path: Path):
    """The script that is shown, run by bash itself."""
    with mock.patch("shellingham.detect_shell", return_value=("bash", "/bin/bash")):
        script = audiotok("--show-completion").out
    (tmp_path / "audiotok").write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
    (tmp_path / "audiotok").chmod(0o755)
    words = "COMP_WORDS=(audiotok ver) COMP_CWORD=1"
    ask = f'{words}; _audiotok_completion audiotok; echo "${{COMPREPLY[@]}}"'
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-c", f"{script}\n{ask}"],
        env={**environment(), "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["verify"], done.stderr


def test_errors_name_the_option_where_the_library_names_its_argument(tmp_path: Path):
    wav, tokens = recording(tmp_path / "a.wav"), tmp_path / "a.tok"
    tokens.write_bytes(b"no tokens")
    done = audiotok("manifest", tmp_path, "-o", tmp_path / "a.tsv")
    again = audiotok("manifest", tmp_path, "-o", tmp_path / "a.tsv")
    assert (done.code, again.code) == (0, 1)
    assert "exists already; --force overwrites it" in again.err
    done = audiotok("encode", wav, "--codec", small())  # its errors come from a batch
    assert done.code == 1
    assert "--force overwrites it" in done.err
    assert as_options("begin anew with force=True, or keep_changed=True keeps them") == (
        "begin anew with --force, or --keep-changed keeps them"
    )
    assert as_options("give tokens.first(4)") == "give --codebooks 4"
    assert as_options("context=SECONDS lets it") == "--context SECONDS lets it"
    assert as_options("split=True codes each") == "--channels split codes each"
    assert as_options("load(..., backend='onnx') runs it") == "--backend onnx runs it"
    assert as_options("decode them with audiotok.load('mimi')") == "decode them with --codec mimi"
    assert as_options("another library's trust=True") == "another library's trust=True"


def test_the_library_raises_nothing_that_names_an_option():
    root, named = Path(package.__file__).parent, []
    for file in sorted(root.rglob("*.py")):
        name = str(file.relative_to(root))
        if not name.startswith(("cli", "serving")):
            tree = ast.parse(file.read_text("utf-8"))
            for node in (n for n in ast.walk(tree) if isinstance(n, ast.Raise)):
                text = re.sub("`[^`]*`", "", ast.unparse(node))  # `tar --sort` is another program
                if re.search(r"[ '\"(]--[a-z]", text):
                    named.append(f"{name}, line {node.lineno}: {text}")
    assert not named


def test_a_warning_that_follows_itself_is_shown_once(capsys: pytest.CaptureFixture[str]):
    set_up()
    log = logging.getLogger("audiotok")
    for name in ("a", "a", "b", "a"):
        log.warning("%s.tsv: odd", name)
    log.error("worse")
    log.error("worse")
    shown = [line.split(" ", 1)[1] for line in capsys.readouterr().err.splitlines()]
    assert shown == ["a.tsv: odd", "b.tsv: odd", "a.tsv: odd", "worse", "worse"]


@pytest.mark.parametrize("number", ["nan", "inf"])
def test_numbers_are_finite(number: str):
    for words in (
        ["train", "r.toml", "--minutes"],
        ["lm", "generate", "m", "-o", "o", "--seconds"],
    ):
        done = audiotok(*words, number)
        assert done.code == 2
        assert f"{words[-1]}" in done.err
        assert len(done.err.splitlines()) == 1


def test_the_real_time_factor_is_time_by_length():
    report = FileReport("a.wav", "a.tok", 6.25e-05, 1, 8, 0, 1, 4.0, 4.0, 0.1)
    assert encoding(report.row())["speed"] == "0.0x real time (factor 1600.0000)"
