"""Helpers that run the command line, in this process or in one of its own."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile, mkdtemp
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import soundfile
import torch

from audiotok.__main__ import main
from audiotok.codecs import checkpoint
from audiotok.codecs.models.speech import Config, Speech

COMMAND = [sys.executable, "-m", "audiotok"]

# Source code of `peak`, which returns the peak memory of its process in bytes. On Linux ru_maxrss
# includes the memory of the parent process, which is large after many tests.
PEAK = """
import resource, sys
def peak():
    try:
        status = open("/proc/self/status").read()
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most * (1 if sys.platform == "darwin" else 1024)
    return int(status.split("VmHWM:")[1].split()[0]) * 1024
"""


class Done(NamedTuple):
    """Exit code and output of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, parsed as JSON."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        """Lines of standard error, which must have no traceback."""
        assert "Traceback" not in self.err
        return self.err.splitlines()


def audiotok(*arguments: str | Path, stdin: bytes = b"") -> Done:
    """Run a command in this process.

    Args:
        *arguments: arguments after `audiotok`.
        stdin: bytes of standard input.
    """
    out, err = io.StringIO(), io.StringIO()
    code: Any = None
    terminate = signal.getsignal(signal.SIGTERM)
    with (
        TemporaryFile() as file,
        open(file.fileno(), closefd=False) as standard,
        mock.patch.object(sys, "argv", ["audiotok", *map(str, arguments)]),
        mock.patch.object(sys, "stdin", standard),
        mock.patch.dict(os.environ, {"COLUMNS": "80"}),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        file.write(stdin)
        file.seek(0)
        try:
            main()
        except SystemExit as end:
            code = end.code
        finally:
            signal.signal(signal.SIGTERM, terminate)
    return Done(code, out.getvalue(), err.getvalue())


def environment() -> dict[str, str]:
    """Return the environment for a command in a process of its own."""
    root = str(Path(__file__).parents[1])
    return {**os.environ, "COLUMNS": "80", "OMP_NUM_THREADS": "1", "PYTHONPATH": root}


def process(*arguments: str | Path, before: Callable[[], None] | None = None) -> Done:
    """Run a command in a process of its own.

    Args:
        *arguments: arguments after `audiotok`.
        before: called in the new process before the command.
    """
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        env=environment(),
        preexec_fn=before,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def background(*arguments: str | Path) -> subprocess.Popen[str]:
    """Start a command in the background, in a process group of its own as in a terminal."""
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_hears_ctrl_c,
    )


def _hears_ctrl_c() -> None:
    """Restore SIGINT, which a shell ignores in background jobs and their children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def until(condition: Callable[[], Any], process: subprocess.Popen[str]) -> Any:
    """Wait until a condition holds and return its value; fail if the process ends first."""
    end = time.monotonic() + 120
    while not (found := condition()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.005)
    return found


def group(leader: int) -> list[int]:
    """Return the ids of the living processes of a process group."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) == leader and fields[0] != "Z":
                found.append(int(folder.name))
    return found


def ends(leader: int) -> bool:
    """Return whether all processes of a group end by themselves within 30 seconds.

    The resource tracker of multiprocessing ends shortly after its parent has ended.
    """
    end = time.monotonic() + 30
    while group(leader) and time.monotonic() < end:
        time.sleep(0.01)
    left = group(leader)
    for pid in left:
        print("still running:", pid, Path(f"/proc/{pid}/cmdline").read_bytes())
    return not left


def noise(seconds: float, rate: int = 16000, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Return white noise below full scale, samples `[t c]`.

    Args:
        seconds: duration in seconds.
        rate: sample rate in Hz.
        channels: number of channels.
        seed: random seed.
    """
    draw = np.random.default_rng(seed).standard_normal((round(seconds * rate), channels))
    return (0.1 * draw).clip(-0.99, 0.99).astype("f4")


def recording(
    path: Path, seconds: float = 0.5, rate: int = 16000, channels: int = 1, seed: int = 0
) -> Path:
    """Write a file of noise and return its path; see `noise` for the other arguments."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, noise(seconds, rate, channels, seed), rate)
    return path


def files(folder: Path) -> list[str]:
    """Return the relative paths of all files below a folder, hidden ones included, sorted."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir())


SMALL = Config(
    encoder=16,
    encoder_blocks=2,
    decoder=16,
    decoder_blocks=2,
    window=3,
    heads=2,
    latent=8,
    codebooks=4,
    size=64,
    semantic=4,
)


@cache
def small(seed: int = 0) -> Path:
    """Return the checkpoint of a small codec of random weights, written once per seed."""
    folder = Path(mkdtemp(prefix="small-", dir=os.environ["HOME"]))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        checkpoint.save(Speech(SMALL), folder / "small.safetensors")
    return folder / "small.safetensors"
