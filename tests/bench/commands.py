"""Processor time and memory of whole commands, in another checkout too.

    python tests/bench/commands.py --against CHECKOUT [--clips 120] [--rounds 3] [--json FILE]

Every command runs in each checkout in turns, with one thread to a process. Counted is the time of
the processor in all processes that a command starts, and the largest memory of one. The least of
the rounds counts, for a shared machine only ever slows down. `import torch` is the yardstick.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from clips import RECORDING, ROOT, commit, machine, shown

SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of prctl(2): what outlives its parent becomes our child
COMMANDS = {
    "--help": "--help",
    "codecs": "codecs",
    "info FILE": "info one.flac",
    "encode FILE": "encode one.flac -o OUT/one.tok -f",
    "decode FILE": "decode OUT/one.tok -o OUT/one.wav -f",
    "encode DIR": "encode clips -o OUT/tok -f",
    "encode DIR --jobs 2": "encode clips -o OUT/tok -f --jobs 2",
    "encode DIR --backend torch": "encode clips -o OUT/tok -f --backend torch",
    "corpus build": "corpus build some -o OUT/corpus -j 1 --force",
}


def cost(words: list[str], checkout: Path, folder: Path) -> tuple[float, float]:
    """Seconds of the processor, and megabytes of its largest process, of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    child = os.fork()
    if not child:  # a process of its own, since the largest memory of children never shrinks
        ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
        environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            words, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            print(" ".join(words), done.stderr, file=sys.stderr)
        while True:  # processes that outlived their parent
            try:
                os.wait()
            except ChildProcessError:
                break
        os._exit(done.returncode)
    _, status, _ = os.wait4(child, 0)
    if status:
        raise SystemExit(f"{' '.join(words)} failed in {checkout}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used, after.ru_maxrss / 1000


def peak(words: list[str], checkout: Path, folder: Path) -> float:
    """Megabytes of the largest process of a command, by a process that counts no other."""
    code = (
        "import commands; from pathlib import Path\n"
        f"print(commands.cost({words!r}, Path({str(checkout)!r}), Path({str(folder)!r}))[1])"
    )
    paths = os.pathsep.join([str(Path(__file__).parent), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def prepared(folder: Path, clips: int) -> None:
    """Write the recordings: one, a folder of clips of 1 to 3 s, and one of longer ones."""
    shutil.copy(RECORDING, folder / "one.flac")
    wave, rate = soundfile.read(RECORDING, dtype="float32", always_2d=True)
    mono = np.concatenate([wave.mean(1)] * 3)
    random = np.random.default_rng(0)
    for name, count, least, most in (("clips", clips, 1, 3), ("some", clips // 2, 2, 16)):
        (folder / name).mkdir()
        for i in range(count):
            size = int(rate * random.uniform(least, most))
            at = int(random.integers(0, len(mono) - size))
            soundfile.write(folder / name / f"{i:03d}.flac", mono[at : at + size], rate)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--against", type=Path, required=True, help="another checkout")
    options.add_argument("--clips", type=int, default=120)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--json", type=Path, help="file to write the results to")
    chosen = options.parse_args()
    builds = {"before": chosen.against.resolve(), "now": ROOT}
    scores: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepared(folder, chosen.clips)
        torch = [sys.executable, "-c", "import torch"]
        yard = min(cost(torch, ROOT, folder)[0] for _ in range(chosen.rounds))
        scores["import torch"] = {"before, s": yard, "now, s": yard, "ratio": 1.0}
        for title, command in COMMANDS.items():
            took: dict[str, list[float]] = {build: [] for build in builds}
            memory = {}
            words = {
                build: [sys.executable, "-m", "audiotok", *command.replace("OUT", build).split()]
                for build in builds
            }
            for _ in range(chosen.rounds):
                for build, checkout in builds.items():
                    (folder / build).mkdir(exist_ok=True)
                    took[build].append(cost(words[build], checkout, folder)[0])
            for build, checkout in builds.items():
                memory[build] = peak(words[build], checkout, folder)
            before, now = min(took["before"]), min(took["now"])
            scores[title] = {
                "before, s": before,
                "now, s": now,
                "ratio": now / before,
                "of import torch": now / yard,
                "before, MB": memory["before"],
                "now, MB": memory["now"],
            }
            print(title, {k: round(v, 3) for k, v in scores[title].items()}, flush=True)
    about = {
        "command": f"python tests/bench/commands.py {shown(sys.argv[1:], against=chosen.against)}",
        "machine": f"{machine()}, shared with other work",
        "date": datetime.now(timezone.utc).date().isoformat(),
        "commit": commit(ROOT),
        "before": commit(chosen.against),
        "unit": "seconds of the processor in all processes; MB of the largest process",
    }
    if chosen.json:
        content = json.dumps(about | {"scores": scores}, indent=1)
        chosen.json.write_text(content + "\n", "utf-8")


if __name__ == "__main__":
    main()
