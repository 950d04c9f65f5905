"""Speed of the driver of a build, and of one-core nodes of Ray beside local processes.

    python tests/bench/cluster.py driver [--rows 10000 100000 1000000]
    python tests/bench/cluster.py simulate [--workers 64 512] [--sleep 0.11] [--json FILE]
    python tests/bench/cluster.py nodes [--seconds 1200] [--rounds 3] [--nodes 2]
    python tests/bench/cluster.py archives [--seconds 2400]

`driver`: microseconds and memory of the driver for each recording of a table, with workers that
answer at once: what it costs to list, hand out, put in order and commit. `simulate`: a build with
so many workers that sleep for a recording's time in the place of encoding it, beside what the model
of docs/guides/cluster.md says: workers over their time, but no more than the driver can take, whose
cost is measured just before. `nodes`: the same
recordings with so many local processes, and with a Ray cluster of so many nodes of one CPU on the
same cores, in turns; the fastest round of each counts. `archives`: seconds to the first commit, and
the driver's memory, of tar files that cannot be read in place. Each build is a process of its own.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from clips import ROOT, commit, machine, shown

from audiotok.corpus.build import build
from audiotok.corpus.build import run as running
from audiotok.corpus.build.executors.base import BuildExecutor
from audiotok.corpus.build.pool import Launcher, Pool, WorkerHandle
from audiotok.corpus.build.work import EncodedRecording, Event, Outcome, Sent, Task, Work

READING = Path(__file__).parents[2] / "egs" / "data" / "reading.flac"
SECONDS = 10  # of each recording
STORE = 100_000_000  # bytes of the object store of a node


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("what", choices=["driver", "simulate", "nodes", "archives", "rows"])
    options.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    options.add_argument("--seconds", type=float, default=1200)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--nodes", type=int, default=2)
    options.add_argument("--workers", type=int, nargs="+", default=[64, 512])
    options.add_argument("--sleep", type=float, default=0.11, help="seconds for a recording")
    options.add_argument("--json", type=Path, help="file to write the results of simulate to")
    options.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.what == "rows":
        rows(chosen.rows[0], chosen.folder)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if chosen.what == "driver":
            for count in chosen.rows:
                command = [sys.executable, __file__, "rows", "--rows", str(count)]
                subprocess.run([*command, "--folder", str(folder / str(count))], check=True)
        elif chosen.what == "simulate":
            simulate(folder, chosen)
        elif chosen.what == "nodes":
            nodes(folder, chosen)
        else:
            archives(folder, chosen.seconds)


# -- the driver ------------------------------------------------------------------------------------


class _Worker(WorkerHandle):
    """A worker that answers at once, with codes of a recording of ten seconds."""

    codes = np.random.default_rng(0).integers(0, 1024, (8, 500), np.uint16)

    def __init__(self) -> None:
        self.messages: list[tuple[str, object]] = [("ready", None)]

    def give(self, tasks: Sequence[Sent]) -> None:
        self.messages += [("done", self.outcome(number)) for number, _ in tasks]

    def outcome(self, number: int) -> Outcome:
        return Outcome(number, EncodedRecording("", self.codes, 160_000, 16000, 160_000, number))

    def receive(self) -> list[tuple[str, object]]:
        messages, self.messages = self.messages, []
        return messages

    def stop(self) -> None:
        pass


class _Workers(Launcher):
    def wanted(self) -> int:
        return 16

    def start(self) -> WorkerHandle:
        return _Worker()

    def wait(self, handles: Sequence[WorkerHandle], seconds: float) -> Sequence[WorkerHandle]:
        return [each for each in handles if isinstance(each, _Worker) and each.messages]


class _Instant(BuildExecutor):
    def run(self, work: Work, tasks: Iterator[Task | None], workers: int) -> Iterator[Event]:
        return Pool(_Workers(), tasks, work).events()


def listed(count: int, folder: Path) -> str:
    """Write a table of so many rows, and return its path."""
    folder.mkdir()
    with (folder / "list.tsv").open("w") as file:
        file.write("path\ttext\tspeaker\n")
        for i in range(count):
            file.write(f"audio/{i // 1000:05d}/{i:08d}.flac\tsaid {i}\ts{i % 97}\n")
    return str(folder / "list.tsv")


def timed(listing: str, out: Path, engine: type[BuildExecutor]) -> float:
    """Return the seconds of a build of a table by an executor of this file."""
    find = running.find
    running.find = lambda family, name: engine if name == "given" else find(family, name)
    began = time.perf_counter()
    try:
        build(listing, out, Work("speech"), engine="given", limit=1 << 26)
    finally:
        running.find = find
    return time.perf_counter() - began


def rows(count: int, folder: Path) -> None:
    """Build a table of so many rows, and print what each costs."""
    listing = listed(count, folder)
    before = resource.getrusage(resource.RUSAGE_SELF)
    took = timed(listing, folder / "out", _Instant)
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    print(
        f"{count:9,} rows: {1e6 * took / count:6.1f} us a row, {1e6 * cpu / count:6.1f} us of CPU, "
        f"{used.ru_maxrss / 1024:6.0f} MB at most",
        flush=True,
    )


# -- workers that sleep ----------------------------------------------------------------------------


class _Sleeper(_Worker):
    """A worker that takes its time for each recording, one after the other."""

    def __init__(self, sleep: float) -> None:
        super().__init__()
        self.sleep = sleep
        self.free = 0.0  # time at which it has done all that it was given
        self.due: deque[tuple[float, Outcome]] = deque()

    def give(self, tasks: Sequence[Sent]) -> None:
        for number, _ in tasks:
            self.free = max(self.free, time.perf_counter()) + self.sleep
            outcome = self.outcome(number)
            # As a worker that encodes says how long it took, so that it is given enough in advance.
            outcome = replace(outcome, coded=replace(outcome.coded, busy=self.sleep))
            self.due.append((self.free, outcome))

    def receive(self) -> list[tuple[str, object]]:
        now = time.perf_counter()
        while self.due and self.due[0][0] <= now:
            self.messages.append(("done", self.due.popleft()[1]))
        return super().receive()

    @property
    def next(self) -> float:
        """Time of its next message; infinite if it has nothing to do."""
        if self.messages:
            return 0.0
        return self.due[0][0] if self.due else math.inf


class _Sleepers(_Workers):
    def __init__(self, count: int, sleep: float) -> None:
        self.count = count
        self.sleep = sleep

    def wanted(self) -> int:
        return self.count

    def start(self) -> WorkerHandle:
        return _Sleeper(self.sleep)

    def wait(self, handles: Sequence[WorkerHandle], seconds: float) -> Sequence[WorkerHandle]:
        sleepers = [each for each in handles if isinstance(each, _Sleeper)]
        first = min(each.next for each in sleepers)
        time.sleep(max(0.0, min(seconds, first - time.perf_counter())))
        now = time.perf_counter()
        return [each for each in sleepers if each.next <= now]


def simulate(folder: Path, chosen: argparse.Namespace) -> None:
    """Compare builds with workers that sleep with the model of the guide."""
    count, scores = chosen.rows[0], {}
    cost = timed(listed(count, folder / "cost"), folder / "cost" / "out", _Instant) / count
    print(f"driver: {1e6 * cost:.0f} us a recording")
    for workers in chosen.workers:

        class Cluster(BuildExecutor):
            size = workers

            def run(
                self, work: Work, tasks: Iterator[Task | None], workers: int
            ) -> Iterator[Event]:
                return Pool(_Sleepers(self.size, chosen.sleep), tasks, work).events()

        place = folder / str(workers)
        total = max(count, 100 * workers)
        rate = total / timed(listed(total, place), place / "out", Cluster)
        model = min(workers / chosen.sleep, 1 / cost)
        print(f"{workers} workers: {rate:.0f} recordings a second, {model:.0f} by the model")
        scores[f"{workers} workers"] = {
            "recordings a second": rate,
            "by the model": model,
            "ratio": rate / model,
            "hours of audio an hour": rate * SECONDS,
            "driver, us a recording": 1e6 * cost,
        }
    if chosen.json:
        about = {
            "command": f"python tests/bench/cluster.py {shown(sys.argv[1:])}",
            "machine": f"{machine()}, shared with other work",
            "date": datetime.now(timezone.utc).date().isoformat(),
            "commit": commit(ROOT),
            "unit": f"recordings of {SECONDS} s, of which a worker takes {chosen.sleep} s for each",
            "scores": scores,
        }
        chosen.json.write_text(json.dumps(about, indent=1) + "\n", "utf-8")


# -- nodes -----------------------------------------------------------------------------------------


def recordings(seconds: float) -> Iterator[tuple[str, bytes]]:
    """Yield names and FLAC files of stretches of a recording."""
    import soundfile

    wave, rate = soundfile.read(READING, dtype="int16")
    wave = np.tile(wave, -(-3 * SECONDS * rate // len(wave)))
    draw = np.random.default_rng(0)
    for i in range(round(seconds / SECONDS)):
        first = int(draw.integers(0, len(wave) - SECONDS * rate))
        file = io.BytesIO()
        soundfile.write(file, wave[first : first + SECONDS * rate], rate, format="FLAC")
        yield f"{i:06d}", file.getvalue()


def built(source: Path, out: Path, *options: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "audiotok", "corpus", "build", str(source), "-o", str(out)]
    done = subprocess.run(
        [*command, "--force", "--json", *options], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


def nodes(folder: Path, chosen: argparse.Namespace) -> None:
    """Compare nodes of one core with as many local processes."""
    os.environ |= {"RAY_worker_niceness": "0"}  # local processes have the usual one
    from ray.cluster_utils import Cluster  # pyright: ignore[reportMissingImports]

    (folder / "in").mkdir()
    for name, data in recordings(chosen.seconds):
        (folder / "in" / f"{name}.flac").write_bytes(data)
    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(chosen.nodes):
        cluster.add_node(num_cpus=1, object_store_memory=STORE)
    ways = {
        f"{chosen.nodes} local processes": ["-j", str(chosen.nodes)],
        f"{chosen.nodes} nodes of one core": ["--engine", "ray", "--address", cluster.address],
    }
    took: dict[str, float] = {}
    for _ in range(chosen.rounds):
        for name, options in ways.items():
            done = built(folder / "in", folder / "out", *map(str, options))
            took[name] = min(took.get(name, 1e9), done["took"])
            print(f"{name}: {done['speed']:.1f}x real time in {done['took']:.1f} s", end=", ")
            print(f"processes {done['busy']:.0%} busy, load {os.getloadavg()[0]:.1f}", flush=True)
    local, ray = took.values()
    print(f"nodes reach {local / ray:.3f} of the processes")
    cluster.shutdown()


# -- archives --------------------------------------------------------------------------------------


def archives(folder: Path, seconds: float) -> None:
    """Time to the first commit and the driver's memory, of compressed tar files."""
    (folder / "in").mkdir()
    files = [*recordings(seconds)]
    for number in range(8):
        with tarfile.open(folder / "in" / f"{number}.tar.gz", "w:gz", compresslevel=1) as tar:
            for name, data in files[number::8]:
                info = tarfile.TarInfo(f"{name}.flac")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    command = [sys.executable, "-m", "audiotok", "corpus", "build", str(folder / "in")]
    command += ["-o", str(folder / "out"), "--kind", "webdataset", "-j", "2"]
    began = time.perf_counter()
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    first, most = 0.0, 0
    while running.poll() is None:
        logs = [path.stat().st_size for path in (folder / "out" / ".build").glob("*.log")]
        if not first and any(logs):
            first = time.perf_counter() - began
        for line in Path(f"/proc/{running.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                most = max(most, int(line.split()[1]))
        time.sleep(0.02)
    took = time.perf_counter() - began
    size = sum(len(data) for _, data in files) / 1e6
    print(
        f"{len(files):,} recordings, {size:,.0f} MB in 8 archives: first commit after {first:.1f}",
        end=" ",
    )
    print(f"s, all in {took:.1f} s, driver {most / 1024:,.0f} MB at most")


if __name__ == "__main__":
    main()
