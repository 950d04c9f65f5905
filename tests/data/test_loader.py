"""Reading ahead: the same batches from any number of processes, and none of them left behind."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from commandline import environment, until

from audiotok.audio.decoders import AudioFileError
from audiotok.data.augment import Augment
from audiotok.data.batches import Batch, BatchConfig, Batches
from audiotok.data.cache import SampleCache
from audiotok.data.direct import FileSamples
from audiotok.data.loader import loader
from audiotok.data.recording import Recording

CONFIG = BatchConfig(batch=3, frames=5, frame_size=320)
PIPED: dict[str, Any] = {"capture_output": True, "text": True, "check": False}
AUGMENT = Augment(gain=0.5, flip=0.5, band=0.5, noise=0.5)


@pytest.fixture
def recordings(tmp_path: Path) -> list[Recording]:
    found = []
    for i, rate in enumerate((16000, 24000, 44100)):
        wave = np.random.default_rng(i).normal(0, 0.1, rate).clip(-0.9, 0.9)
        soundfile.write(tmp_path / f"{i}.wav", wave, rate)
        found.append(Recording.of_file(tmp_path / f"{i}.wav", {"text": str(i)}))
    return found


def children() -> set[int]:
    """Processes whose parent is this one, the dead that nobody asked after included."""
    found = subprocess.run(["ps", "-ww", "-o", "pid=,args=", "--ppid", str(os.getpid())], **PIPED)
    lines = [line.split(None, 1) for line in found.stdout.splitlines()]
    return {
        int(pid) for pid, what in lines if "ps -ww" not in what and "resource_tracker" not in what
    }


@pytest.mark.parametrize("kind", [SampleCache.build, FileSamples.open])
def test_any_number_of_processes_gives_the_same_batches(
    kind, recordings: list[Recording], tmp_path: Path
):
    batches = Batches(kind(recordings, 16000, tmp_path), CONFIG, augment=AUGMENT)
    here = list(loader(batches, first=3, last=9))
    before = children()
    there = list(loader(batches, first=3, last=9, workers=2))
    assert children() <= before
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
    batches = Batches(SampleCache.build(recordings, 16000, tmp_path), CONFIG)
    batches.length = "long"  # type: ignore[assignment]
    with pytest.raises(
        RuntimeError, match=r"(?s)in a process that reads data:\nTraceback.*TypeError"
    ):
        next(loader(batches, first=0, last=9, workers=1))


def test_nothing_to_load(recordings: list[Recording], tmp_path: Path):
    batches = Batches(SampleCache.build(recordings, 16000, tmp_path), CONFIG)
    assert list(loader(batches, first=4, last=4, workers=2)) == []
    assert list(loader(batches, first=4, last=4)) == []


def test_closing_ends_the_processes(recordings: list[Recording], tmp_path: Path):
    batches = Batches(SampleCache.build(recordings, 16000, tmp_path), CONFIG)
    before = children()
    with closing(loader(batches, first=0, last=10**6, workers=1)) as loading:
        next(loading)
        assert len(children() - before) == 1
    assert children() <= before


def test_what_goes_wrong_in_a_process_is_said_in_one_line(
    recordings: list[Recording], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    batches = Batches(FileSamples.open(recordings, 16000, tmp_path), CONFIG)
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
    assert children() <= before


def test_a_process_that_is_killed_is_an_error(recordings: list[Recording], tmp_path: Path):
    batches = Batches(SampleCache.build(recordings, 16000, tmp_path), CONFIG)
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
    assert children() <= before


class LongReads(Batches):
    """Batches whose second is read from a temporary copy for an hour."""

    def __getitem__(self, step: int) -> Batch:
        if step:
            with tempfile.NamedTemporaryFile():
                time.sleep(3600)
        return super().__getitem__(step)


@pytest.mark.parametrize("killed", [False, True])
def test_no_temporary_copy_is_left(
    recordings: list[Recording], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
):
    """Recordings in archives and at URLs are copied to be read; a process may be in the midst."""
    batches = LongReads(SampleCache.build(recordings, 16000, tmp_path), CONFIG)
    copies = tmp_path / "copies"
    copies.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(copies))
    before = children()
    with closing(loader(batches, first=0, last=9, workers=1)) as loading:
        next(loading)
        end = time.monotonic() + 60
        while not list(copies.glob("*/*")):
            assert time.monotonic() < end, "nothing is read ahead"
            time.sleep(0.001)
        if killed:
            (worker,) = children() - before
            os.kill(worker, signal.SIGKILL)
    assert list(copies.iterdir()) == []


# A program that trains, with processes that read ahead.
PROGRAM = """
import sys, time
from pathlib import Path
from audiotok.data.batches import BatchConfig, Batches
from audiotok.data.loader import loader
from audiotok.data.recording import Recording
from audiotok.data.cache import SampleCache

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    recordings = [Recording.of_file(folder / f"{i}.wav") for i in range(3)]
    pool = SampleCache.build(recordings, 16000, folder)
    batches = Batches(pool, BatchConfig(batch=3, frames=5, frame_size=320))
    print("ready", flush=True)
    for batch in loader(batches, first=0, last=10**9, workers=2):
        print("batch", flush=True)
"""


def listed(group: int) -> dict[int, str]:
    """The processes of a group and their commands."""
    found = subprocess.run(["ps", "-ww", "-o", "pid=,args=", "-g", str(group)], **PIPED).stdout
    return {int(line.split()[0]): line for line in found.splitlines()}


@contextmanager
def program(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The program at work, its words in `folder`; when this ends, nothing of it is left."""
    (folder / "program.py").write_text(PROGRAM)
    with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
        running = subprocess.Popen(
            [sys.executable, str(folder / "program.py"), str(folder)],
            env=environment(),
            stdout=out,
            stderr=err,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
        )
        try:
            yield running
        finally:
            if listed(running.pid):
                os.killpg(running.pid, signal.SIGKILL)
            running.wait()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_processes_end_with_the_one_that_started_them(
    how: signal.Signals, recordings: list[Recording], tmp_path: Path
):
    """Ctrl-C in a terminal goes to all of them at once, and only the first may complain."""
    del recordings  # the files are there
    with program(tmp_path) as running:
        until(lambda: "batch" in (tmp_path / "out").read_text(), running)
        if how == signal.SIGINT:
            os.killpg(running.pid, how)
        else:
            os.kill(running.pid, how)
        assert running.wait(60) == -how
        end = time.monotonic() + 60
        while listed(running.pid):
            assert time.monotonic() < end, "a process is left"
            time.sleep(0.1)
    if how == signal.SIGINT:
        said = (tmp_path / "err").read_text()
        assert said.count("Traceback") == 1, said
        assert said.rstrip().endswith("KeyboardInterrupt"), said


def test_processes_do_not_hear_ctrl_c_not_even_while_they_start(
    recordings: list[Recording], tmp_path: Path
):
    del recordings
    with program(tmp_path) as running:

        def workers() -> list[int]:
            return [pid for pid, what in listed(running.pid).items() if "spawn_main" in what]

        until(lambda: len(workers()) == 2, running)
        for _ in range(4):  # they are importing torch
            time.sleep(0.3)
            for worker in workers():
                os.kill(worker, signal.SIGINT)
        until(lambda: "batch" in (tmp_path / "out").read_text(), running)
        for worker in workers():
            os.kill(worker, signal.SIGINT)
        lines = (tmp_path / "out").read_text().count("\n")
        until(lambda: (tmp_path / "out").read_text().count("\n") > lines + 50, running)
        assert (tmp_path / "err").read_text() == ""
