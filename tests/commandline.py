"""Running the command line: in this process where that will do, in its own where it must."""

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

# For a process of its own: the most bytes that it had in memory. In ru_maxrss Linux counts what the
# process had that started it, which after many tests is much.
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
    """What a command left: its exit code and its words."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        """Lines on stderr; each is about one thing."""
        assert "Traceback" not in self.err
        return self.err.splitlines()


def audiotok(*arguments: str | Path, stdin: bytes = b"") -> Done:
    """Runs a command in this process."""
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
    root = str(Path(__file__).parents[1])
    return {**os.environ, "COLUMNS": "80", "OMP_NUM_THREADS": "1", "PYTHONPATH": root}


def process(*arguments: str | Path, before: Callable[[], None] | None = None) -> Done:
    """Runs a command in a process of its own, after `before` in it."""
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
    """Starts a command in a process group of its own, as a terminal does."""
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
    # A shell starts what it runs in the background deaf to SIGINT, and children inherit that.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def until(condition: Callable[[], Any], process: subprocess.Popen[str]) -> Any:
    """Waits until something is so; fails if the process ends first."""
    end = time.monotonic() + 120
    while not (found := condition()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.005)
    return found


def group(leader: int) -> list[int]:
    """Living processes of a process group."""
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
    """Whether all of a process group end by themselves; one that does not stays for good.

    multiprocessing's own resource tracker goes when it sees that its parent has gone, which is a
    moment after that.
    """
    end = time.monotonic() + 30
    while group(leader) and time.monotonic() < end:
        time.sleep(0.01)
    return not group(leader)


def noise(seconds: float, rate: int = 16000, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Samples [t c] below full scale."""
    draw = np.random.default_rng(seed).standard_normal((round(seconds * rate), channels))
    return (0.1 * draw).clip(-0.99, 0.99).astype("f4")


def recording(
    path: Path, seconds: float = 0.5, rate: int = 16000, channels: int = 1, seed: int = 0
) -> Path:
    """A file of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, noise(seconds, rate, channels, seed), rate)
    return path


def files(folder: Path) -> list[str]:
    """All files below a folder, hidden ones too."""
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
    """The checkpoint of a small codec, made once."""
    folder = Path(mkdtemp(prefix="small-", dir=os.environ["HOME"]))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        checkpoint.save(Speech(SMALL), folder / "small.safetensors")
    return folder / "small.safetensors"
