"""Reading ahead: the same batches from any number of processes, and none of them left behind."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from commandline import environment, until

from audiotok.augment import Augment
from audiotok.data import Batches, Config
from audiotok.decoders import AudioFileError
from audiotok.direct import Files
from audiotok.loader import loader
from audiotok.manifest import Recording
from audiotok.pool import Pool

CONFIG = Config(batch=3, frames=5, frame_size=320)
PIPED: dict[str, Any] = {"capture_output": True, "text": True, "check": False}
AUGMENT = Augment(gain=0.5, flip=0.5, band=0.5, noise=0.5)


@pytest.fixture
def recordings(tmp_path: Path) -> list[Recording]:
    found = []
    for i, rate in enumerate((16000, 24000, 44100)):
        wave = np.random.default_rng(i).normal(0, 0.1, rate).clip(-0.9, 0.9)
        soundfile.write(tmp_path / f"{i}.wav", wave, rate)
        found.append(Recording(tmp_path / f"{i}.wav", {"text": str(i)}))
    return found


def children() -> set[int]:
    """Processes whose parent is this one, the dead that nobody asked after included."""
    listed = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(os.getpid())], **PIPED)
    lines = [line.split(None, 1) for line in listed.stdout.splitlines()]
    return {
        int(pid) for pid, what in lines if "ps -o" not in what and "resource_tracker" not in what
    }


@pytest.mark.parametrize("kind", [Pool.build, Files.open])
def test_any_number_of_processes_gives_the_same_batches(
    kind, recordings: list[Recording], tmp_path: Path
):
    batches = Batches(kind(recordings, 16000, tmp_path), CONFIG, augment=AUGMENT)
    here = list(loader(batches, first=3, last=9))
    before = children()
    there = list(loader(batches, first=3, last=9, workers=2))
    assert children() == before
    assert len(here) == len(there) == 6
    for one, other in zip(here, there, strict=True):
        assert torch.equal(one.wave, other.wave), "to the bit"
        assert other.clean is other.wave
        assert torch.equal(one.real, other.real)
        assert (one.starts, one.recordings, one.text) == (
            other.starts,
            other.recordings,
            other.text,
        )
    resumed = next(loader(batches, first=7, last=9))
    assert torch.equal(resumed.wave, here[4].wave)


def test_a_fault_of_ours_comes_with_its_traceback(recordings: list[Recording], tmp_path: Path):
    batches = Batches(Pool.build(recordings, 16000, tmp_path), CONFIG)
    batches.length = "long"  # type: ignore[assignment]
    with pytest.raises(
        RuntimeError, match=r"(?s)in a process that reads data:\nTraceback.*TypeError"
    ):
        next(loader(batches, first=0, last=9, workers=1))


def test_nothing_to_load(recordings: list[Recording], tmp_path: Path):
    batches = Batches(Pool.build(recordings, 16000, tmp_path), CONFIG)
    assert list(loader(batches, first=4, last=4, workers=2)) == []
    assert list(loader(batches, first=4, last=4)) == []


def test_closing_ends_the_processes(recordings: list[Recording], tmp_path: Path):
    batches = Batches(Pool.build(recordings, 16000, tmp_path), CONFIG)
    before = children()
    with closing(loader(batches, first=0, last=10**6, workers=1)) as loading:
        next(loading)
        assert len(children() - before) == 1
    assert children() == before


def test_what_goes_wrong_in_a_process_is_said_in_one_line(
    recordings: list[Recording], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    batches = Batches(Files.open(recordings, 16000, tmp_path), CONFIG)
    recordings[0].path.unlink()
    with caplog.at_level(logging.WARNING, "audiotok"):
        read = list(loader(batches, first=0, last=12, workers=1))
    assert len(read) == 12
    (message,) = caplog.messages
    assert message.startswith(f"{recordings[0].path}: no such file")
    for recording in recordings[1:]:
        recording.path.unlink()
    before = children()
    with pytest.raises(AudioFileError, match=r"^[^\n]*: no such file$"):
        list(loader(batches, first=0, last=12, workers=1))
    assert children() == before


def test_a_process_that_is_killed_is_an_error(recordings: list[Recording], tmp_path: Path):
    batches = Batches(Pool.build(recordings, 16000, tmp_path), CONFIG)
    before = children()
    with closing(loader(batches, first=0, last=10**6, workers=1)) as loading:
        next(loading)
        (worker,) = children() - before
        os.kill(worker, signal.SIGKILL)
        with pytest.raises(
            ValueError, match=r"^a process that reads training data ended by signal 9"
        ):
            for _ in loading:
                pass
    assert children() == before


# A program that trains, with processes that read ahead.
PROGRAM = """
import sys, time
from pathlib import Path
from audiotok.data import Batches, Config
from audiotok.loader import loader
from audiotok.manifest import Recording
from audiotok.pool import Pool

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    pool = Pool.build([Recording(folder / f"{i}.wav", {}) for i in range(3)], 16000, folder)
    batches = Batches(pool, Config(batch=3, frames=5, frame_size=320))
    print("ready", flush=True)
    for batch in loader(batches, first=0, last=10**9, workers=2):
        print("batch", flush=True)
"""


def listed(group: int) -> str:
    """The command of each process of a group."""
    return subprocess.run(["ps", "-o", "args=", "-g", str(group)], **PIPED).stdout


@pytest.mark.parametrize(
    ("how", "when"),
    [(signal.SIGINT, "ready"), (signal.SIGINT, "batch"), (signal.SIGKILL, "batch")],
)
def test_processes_end_with_the_one_that_started_them(
    how: signal.Signals, when: str, recordings: list[Recording], tmp_path: Path
):
    """Ctrl-C in a terminal goes to all of them at once, and only the first may complain."""
    del recordings  # the files are there
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    with (tmp_path / "out").open("w+") as out, (tmp_path / "err").open("w+") as err:
        running = subprocess.Popen(
            [sys.executable, str(program), str(tmp_path)],
            env=environment(),
            stdout=out,
            stderr=err,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
        )
        try:
            until(lambda: when in (tmp_path / "out").read_text(), running)  # type: ignore[arg-type]
            if when == "ready":  # its processes are importing torch
                until(lambda: listed(running.pid).count("spawn_main") == 2, running)
                time.sleep(0.7)
            if how == signal.SIGINT:
                os.killpg(running.pid, how)
            else:
                os.kill(running.pid, how)
            assert running.wait(60) == -how
            end = time.monotonic() + 60
            while listed(running.pid):
                assert time.monotonic() < end, "a process is left"
                time.sleep(0.1)
        finally:
            if listed(running.pid):
                os.killpg(running.pid, signal.SIGKILL)
            running.wait()
        said = (tmp_path / "err").read_text()
    if how == signal.SIGINT:
        assert said.count("Traceback") == 1, said
        assert said.rstrip().endswith("KeyboardInterrupt"), said
