"""Default threads beside one thread, on a free machine and on a busy one: time and output.

    python tests/bench/busy.py [--minutes 10] [--load 2] [--backends torch onnx] [--rounds 3]
        [--json FILE]

`audiotok encode` and `decode` of a long recording by some backends, with the default number of
threads and with `--threads 1`, in turns. Busy is a machine with so many processes
that loop for ever as `--load` times its cores. Medians of the rounds; `seconds` are by the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from statistics import median

import numpy as np
import soundfile
from clips import RECORDING, ROOT, commit, machine, shown

THREADS: dict[str, list[str]] = {"default": [], "one": ["--threads", "1"]}


@contextmanager
def load(loops: int) -> Iterator[None]:
    """Keep so many processes busy; they end with this one, however it ends."""
    code = f"import os\nwhile os.getppid() == {os.getpid()}: sum(range(10**6))"
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(loops)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def cost(words: list[str], folder: Path) -> tuple[float, float]:
    """Seconds of the processor and seconds by the clock of a command with its own threads."""
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    environment["PYTHONPATH"] = str(ROOT)
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "audiotok", *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} failed")
    return used.ru_utime + used.ru_stime, time.perf_counter() - began


def measured(backend: str, rounds: int, folder: Path) -> dict[str, dict[str, float]]:
    """Costs of encoding and decoding by a backend, and whether the files are equal."""
    took: dict[str, dict[str, list[tuple[float, float]]]] = {"encode": {}, "decode": {}}
    for _ in range(rounds):
        for name, option in THREADS.items():
            tokens, wave = f"{name}.tok", f"{name}.wav"
            more = ["--backend", backend, "-f", *option]
            for way, source, target in (("encode", "long.flac", tokens), ("decode", tokens, wave)):
                spent = cost([way, source, "-o", target, *more], folder)
                took[way].setdefault(name, []).append(spent)
    rows = {}
    for way, ending in (("encode", "tok"), ("decode", "wav")):
        files = [(folder / f"{name}.{ending}").read_bytes() for name in THREADS]
        row: dict[str, float] = {}
        for i, unit in enumerate(("CPU, s", "seconds")):
            one, default = (median(t[i] for t in took[way][n]) for n in ("one", "default"))
            row |= {f"one thread, {unit}": one, f"default, {unit}": default}
            row[f"ratio, {unit}"] = default / one
        rows[way] = row | {"equal bytes": float(files[0] == files[1])}
    return rows


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--minutes", type=float, default=10)
    options.add_argument("--load", type=int, default=2, help="busy processes a core")
    options.add_argument("--backends", nargs="+", default=["torch", "onnx"])
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--json", type=Path, help="file to write the results to")
    chosen = options.parse_args()
    loops = chosen.load * (os.cpu_count() or 1)
    wave, rate = soundfile.read(RECORDING, dtype="float32", always_2d=True)
    about = {
        "command": f"python tests/bench/busy.py {shown(sys.argv[1:])}",
        "machine": f"{machine()}, shared with other work",
        "date": datetime.now(timezone.utc).date().isoformat(),
        "commit": commit(ROOT),
        "unit": f"{chosen.minutes:g} minutes of audio, whole commands; equal bytes: 1 is yes",
    }
    scores = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = int(chosen.minutes * 60 * rate)
        long = np.tile(wave, (1 + size // len(wave), 1))[:size]
        soundfile.write(folder / "long.flac", long, rate)
        for backend in chosen.backends:
            for state, busy in ((f"{loops} busy loops", loops), ("free", 0)):
                with load(busy):
                    rows = measured(backend, chosen.rounds, folder)
                for way, row in rows.items():
                    scores[f"{way}, {backend}, {state}"] = row
                    print(way, backend, state, {k: round(v, 2) for k, v in row.items()}, flush=True)
                if chosen.json:
                    content = json.dumps(about | {"scores": scores}, indent=1)
                    chosen.json.write_text(content + "\n", "utf-8")


if __name__ == "__main__":
    main()
