"""The number of threads is an option of whatever computes, and threads sleep while they wait."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from commandline import audiotok, environment, recording, small

from audiotok.runtime.backends import base
from audiotok.runtime.batch.run import _results

COMPUTES = (
    *("encode", "decode", "roundtrip", "conform", "export", "bench", "mic", "serve", "train"),
    *("stream encode", "stream decode", "corpus build", "lm train", "lm generate", "lm score"),
)


@pytest.fixture
def _limited(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put the number of threads of this process back."""
    before = torch.get_num_threads()
    monkeypatch.setattr(base, "_threads", None)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("command", COMPUTES)
def test_whatever_computes_takes_a_number_of_threads(command: str):
    assert "--threads" in audiotok(*command.split(), "--help").out
    done = audiotok(*command.split(), "--threads", "0")
    assert done.code == 2
    assert "--threads" in done.err


@pytest.mark.usefixtures("_limited")
def test_a_command_has_as_many_threads_as_it_is_told(tmp_path: Path):
    wave = recording(tmp_path / "a.wav", 0.2)
    done = audiotok("encode", wave, "--codec", small(), "--threads", "3")
    assert done.code == 0, done.err
    assert torch.get_num_threads() == base.thread_limit() == 3


def _threads_of(source: Path, target: Path) -> dict[str, int]:
    return {"threads": torch.get_num_threads()}


def _job() -> object:
    return _threads_of


@pytest.mark.usefixtures("_limited")
def test_workers_have_as_many_threads_as_their_parent_is_told():
    base.limit_threads(3)
    pairs = [(Path("a"), Path("b")), (Path("c"), Path("d"))]
    assert [row for _, row in _results(_job, pairs, 2, ())] == [{"threads": 3}] * 2  # pyright: ignore


NAMES = "OMP_WAIT_POLICY", "KMP_BLOCKTIME", "GOMP_SPINCOUNT"


@pytest.mark.parametrize(
    ("running", "given", "expected"),
    [
        (1000, {}, ["passive", "0", None]),
        (1, {}, ["passive", "0", "1000"]),
        (1, {"OMP_WAIT_POLICY": "active", "GOMP_SPINCOUNT": "7"}, ["active", "0", "7"]),
        (None, {}, ["passive", "0", None]),
    ],
)
def test_threads_sleep_while_they_wait_unless_the_user_wants_otherwise(
    running: int | None, given: dict[str, str], expected: list[str | None], tmp_path: Path
):
    """At once on a busy machine, and after a short while on a free one."""
    load = tmp_path / "loadavg"
    if running is not None:
        load.write_text(f"0.10 4.86 4.05 {running}/2150 1\n")
    code = (
        "import json, os, sys\n"
        "from audiotok import __main__\n"
        f"__main__.LOAD = {str(load)!r}\n"
        "sys.argv[1:] = ['--version']\n"
        "try: __main__.main()\n"
        f"except SystemExit: print(json.dumps([os.environ.get(name) for name in {NAMES}]))\n"
    )
    clean = {k: v for k, v in environment().items() if k not in NAMES}
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean | given, capture_output=True, text=True
    )
    assert json.loads(done.stdout.splitlines()[-1]) == expected, done.stderr


def test_a_worker_has_the_environment_of_who_starts_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """Not that of the process it is a copy of, which may have started long ago."""
    from audiotok.runtime.batch.processes import start_process

    for value in ("one", "two"):
        monkeypatch.setenv("AUDIOTOK_TOKEN", value)
        folder = tmp_path / value
        folder.mkdir()
        process, pipe = start_process(_environment, folder=str(folder))
        assert pipe.recv() == (value, str(folder))
        process.join(20)
        pipe.close()


def _environment(pipe: object) -> None:
    value = os.environ.get("AUDIOTOK_TOKEN"), tempfile.gettempdir()
    pipe.send(value)  # pyright: ignore[reportAttributeAccessIssue]
