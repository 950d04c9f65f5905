"""Memory of `corpus build` over a hundred to a hundred thousand real recordings.

    python tests/bench/memory.py --data RECORDINGS [--recordings 100 1000 10000 100000]
        [--codec speech] [--jobs 1] [--keep FOLDER]

Cuts recordings of 0.3 to 0.5 s out of those below RECORDINGS (all draws seeded), into folders by
speaker and file as corpora have them, and builds a corpus of each number of them. Memory is looked
at five times a second, over the whole tree of processes: the sum of what each has resident (what
two share counts twice), at most and on average in each quarter of the run. With `--minutes` a
build is stopped after so many, as Ctrl-C does; with `--keep`, the next call goes on with it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import soundfile

from audiotok.audio.decoders import AUDIO

EACH = 0.2  # seconds between two looks
MB = 1 << 20


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", type=Path, required=True, help="a folder of recordings")
    options.add_argument("--recordings", type=int, nargs="+", default=[100, 1000, 10000, 100000])
    options.add_argument("--codec", default="speech")
    options.add_argument("--jobs", type=int, default=1)
    options.add_argument("--minutes", type=float, default=float("inf"))
    options.add_argument("--keep", type=Path, help="where recordings and corpora stay")
    chosen = options.parse_args()
    print(
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {chosen.jobs} processes, ", end=""
    )
    print(f"{chosen.codec}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = chosen.keep or Path(scratch)
        for count in chosen.recordings:
            cut(chosen.data, folder / f"in-{count}", count)
            measure(folder / f"in-{count}", folder / f"out-{count}", count, chosen)


def cut(data: Path, folder: Path, count: int) -> None:
    """Cuts `count` pieces, each file's as evenly many as it takes."""
    if (folder / "done").is_file():
        return
    shutil.rmtree(folder, ignore_errors=True)
    draw = np.random.default_rng(0)
    files = sorted(path for path in data.rglob("*") if path.suffix.lower() in AUDIO)
    if not files:
        sys.exit(f"{data}: no recordings there")
    files = files[:: max(1, len(files) // count)]  # of few, from all corners
    each, number = -(-count // len(files)), 0
    for path in files:
        samples, rate = soundfile.read(path, dtype="float32")
        inner = folder / path.relative_to(data).with_suffix("")
        for i in range(min(each, count - number)):
            length = min(len(samples), int(draw.uniform(0.3, 0.5) * rate))
            first = int(draw.integers(0, len(samples) - length + 1))
            inner.mkdir(parents=True, exist_ok=True)
            soundfile.write(inner / f"{i:03d}.flac", samples[first : first + length], rate)
            number += 1
    (folder / "done").touch()


def measure(folder: Path, out: Path, count: int, chosen: argparse.Namespace) -> None:
    """Builds, watches, and prints a line."""
    command = [sys.executable, "-m", "audiotok", "corpus", "build", str(folder), "-o", str(out)]
    command += ["--codec", chosen.codec, "--jobs", str(chosen.jobs), "--json"]
    began = time.perf_counter()
    looks: list[tuple[float, float]] = []  # MB: of the main process, of all
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as build:
        tree = psutil.Process(build.pid)
        while build.poll() is None:
            with suppress(psutil.NoSuchProcess):
                own = tree.memory_info().rss / MB
                others = [child.memory_info().rss / MB for child in tree.children(recursive=True)]
                looks.append((own, own + sum(others)))
            time.sleep(EACH)
            if time.perf_counter() - began > 60 * chosen.minutes:
                build.send_signal(signal.SIGINT)
        said = build.stdout.read() if build.stdout else ""
    took = time.perf_counter() - began
    seen = np.array(looks)
    main, whole = seen.max(0)
    quarters = ", ".join(f"{part[:, 1].mean():.0f}" for part in np.array_split(seen, 4))
    print(f"{count:7,} recordings: at most {whole:.0f} MB, {main:.0f} of them in the main", end=" ")
    print(f"process; {quarters} MB in the quarters of {took:.0f} s", end="; ")
    if build.returncode:
        sys.exit(f"ended with {build.returncode}")
    facts = json.loads(said)
    done, seconds = facts["run_recordings"], facts["run_seconds"]
    print(f"{done:,} of them now, {done / took:.0f} a second, {seconds / took:.0f}x real time")


if __name__ == "__main__":
    main()
