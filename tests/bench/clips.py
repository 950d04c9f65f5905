"""Speed of short and long clips through `codec.encode` and `codec.decode`, in another checkout too.

    python tests/bench/clips.py [CODEC ...] [--seconds 1-3 1 3 10 60] [--against CHECKOUT]
        [--backends onnx ...] [--peer] [--threads N] [--cpu] [--rounds 3] [--json FILE]

`1-3` is twenty clips of 1 to 3 s; a number is clips of that length, 20 s of them or one. Each
build runs in its own processes, which take turns; the fastest round of each counts, for a shared
machine only ever slows down. Codes and samples of the builds are compared, and `--backends` adds
this build run by others than torch, or in another precision (`torch:int8`). `--peer` adds the
package `encodec` (24 kHz, 8 codebooks, random weights) as its documentation runs it. Threads are
torch's default unless given. A published codec has random weights.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
RECORDING = ROOT / "egs" / "data" / "reading.flac"
PEER = "encodec package"
WAYS = ("encode", "decode")


def lengths(of: str) -> list[float]:
    """Seconds of each clip of a set: `1-3`, or a number."""
    least, dash, most = of.partition("-")
    if dash:
        return [float(x) for x in np.linspace(float(least), float(most), 20)]
    return [float(least)] * max(1, int(20 / float(least)))


def clips(of: str, rate: int) -> list[Any]:
    """The same clips in every build, of real speech."""
    from audiotok import Audio

    one = Audio.load(RECORDING).mono().resample(rate)
    sizes = [int(seconds * rate) for seconds in lengths(of)]
    whole = Audio.cat([one] * (1 + -(-max(sizes) // len(one))))
    draw = random.Random(of)
    return [whole[(at := draw.randrange(len(one))) : at + size] for size in sizes]


def worker(chosen: argparse.Namespace) -> None:
    """Time one round of one build or package, and write seconds, codes and samples."""
    import torch

    clock = time.process_time if chosen.cpu else time.perf_counter
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    torch.set_flush_denormal(True)
    rate, encode, decode = package() if chosen.worker == PEER else ours(chosen.worker)
    took: dict[str, float] = {}
    made: dict[str, np.ndarray] = {}
    with torch.inference_mode():
        for of in chosen.seconds:
            given = clips(of, rate)
            tokens = [encode(clip) for clip in given]
            for way, task, inputs in (("encode", encode, given), ("decode", decode, tokens)):
                outputs = [task(one) for one in inputs]  # also warms
                best = float("inf")
                for _ in range(2):
                    began = clock()
                    for one in inputs:
                        task(one)
                    best = min(best, clock() - began)
                took[f"{way} {of}"] = best
                if chosen.worker != PEER:
                    parts = [o.codes if way == "encode" else o.samples.numpy() for o in outputs]
                    made[f"{way} {of}"] = np.concatenate(parts, 1)
    np.savez(chosen.out, **made)  # pyright: ignore[reportArgumentType]
    print(json.dumps(took))


Task = Callable[[Any], Any]


def ours(name: str) -> tuple[int, Task, Task]:
    import torch

    from audiotok import load
    from audiotok._platform.registry import find_preset

    name, _, backend = name.partition("/")
    if backend:
        backend, _, precision = backend.partition(":")
        codec: Any = load(name, backend=backend, precision=precision or "float32")  # pyright: ignore
    elif name == "speech":
        codec = load(name)
    else:
        kind, config = find_preset("codecs", name)
        torch.manual_seed(0)
        codec = kind(config).eval().requires_grad_(False)
    return codec.sample_rate, codec.encode, codec.decode


def package() -> tuple[int, Task, Task]:
    from audiotok.audio import _torchaudio

    _torchaudio.load()  # encodec imports torchaudio
    from encodec.model import EncodecModel

    model = EncodecModel.encodec_model_24khz(pretrained=False).eval()
    model.set_target_bandwidth(6.0)
    for name, buffer in model.named_buffers():
        if name.endswith("inited"):
            buffer.fill_(1)  # else it runs k-means on the recording
    return 24000, lambda clip: model.encode(clip.samples[None]), model.decode


def round_of(subject: str, checkout: Path, out: Path, chosen: argparse.Namespace) -> Any:
    """Run a worker process in a checkout, and return its seconds by task."""
    options = ["--worker", subject, "--out", str(out), "--seconds", *chosen.seconds]
    options += ["--threads", str(chosen.threads)] if chosen.threads else []
    options += ["--cpu"] if chosen.cpu else []
    paths = [str(checkout), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, __file__, *options],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def commit(checkout: Path) -> str:
    described = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(described, capture_output=True, text=True, check=True).stdout.strip()


def apart(first: Path, second: Path) -> dict[str, str]:
    """What differs between the codes and samples of two builds, by task."""
    said = {}
    with np.load(first) as a, np.load(second) as b:
        for key in a:
            if key.startswith("encode"):
                said[key] = f"{int((a[key] != b[key]).sum())} of {a[key].size} codes differ"
            else:
                said[key] = f"samples within {float(np.abs(a[key] - b[key]).max()):.0e}"
    return said


def compared(name: str, chosen: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Seconds of a codec in each build, and of the package, by task."""
    builds = {"this": (name, ROOT)}
    builds |= {backend: (f"{name}/{backend}", ROOT) for backend in chosen.backends}
    builds |= {"against": (name, chosen.against)} if chosen.against else {}
    builds |= {PEER: (PEER, ROOT)} if chosen.peer else {}
    best: dict[str, dict[str, float]] = {build: {} for build in builds}
    for _ in range(chosen.rounds):
        for build, (subject, checkout) in builds.items():
            took = round_of(subject, checkout, folder / f"{build}.npz", chosen)
            for task, seconds in took.items():
                best[build][task] = min(seconds, best[build].get(task, seconds))
    said = apart(folder / "this.npz", folder / "against.npz") if chosen.against else {}
    rows = {}
    for of in chosen.seconds:
        total = sum(lengths(of))
        for way in WAYS:
            task = f"{way} {of}"
            row: dict[str, Any] = {b: round(total / best[b][task], 2) for b in builds}
            row |= {
                f"times {b}": round(best[b][task] / best["this"][task], 2)
                for b in builds
                if b != "this"
            }
            rows[task] = row | ({"codes": said[task]} if said else {})
            print(f"{name} {task} s:", ", ".join(f"{k} {v}" for k, v in rows[task].items()))
    return rows


def stored(about: dict[str, Any], rows: dict[str, Any]) -> dict[str, Any]:
    """The results as docs/results has them: a row a codec and task, and what differed."""
    scores, differences = {}, []
    for name, tasks in rows.items():
        for task, row in tasks.items():
            scores[f"{name}, {task} s"] = {k: v for k, v in row.items() if k != "codes"}
            if "codes" in row:
                differences.append(f"{name}, {task} s: {row['codes']}")
    return about | {"differences": differences, "scores": scores}


def shown(words: Sequence[str], *, against: Path | None = None) -> str:
    """Return the words of a command without the folders of this machine.

    Args:
        words: what stands after the program.
        against: another checkout, which is called CHECKOUT.
    """
    called = ("CHECKOUT" if word == str(against) else word for word in words)
    return shlex.join(re.sub(r"(^|=)/\S*/", r"\1", word) for word in called)


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{next(names, 'unknown CPU')}, {os.cpu_count()} cores"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("codecs", nargs="*", default=["speech"])
    options.add_argument("--seconds", nargs="+", default=["1-3", "1", "3", "10", "60"])
    options.add_argument("--against", type=Path, help="another checkout, for ratios")
    options.add_argument(
        "--backends", nargs="*", default=[], help="this build in these too: onnx, torch:int8"
    )
    options.add_argument("--peer", action="store_true", help="the package encodec too")
    options.add_argument("--threads", type=int, help="those of torch's own choice if not given")
    options.add_argument("--cpu", action="store_true", help="count the processor's seconds")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--json", type=Path, help="file to write the results to")
    options.add_argument("--worker", help=argparse.SUPPRESS)
    options.add_argument("--out", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.worker:
        return worker(chosen)
    about = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
        "threads": chosen.threads or "torch's default",
        "unit": "times real time, " + ("processor's seconds" if chosen.cpu else "by the clock"),
        "commit": commit(ROOT),
        "command": f"python tests/bench/clips.py {shown(sys.argv[1:], against=chosen.against)}",
    }
    if chosen.against:
        about["against"] = commit(chosen.against)
    print(json.dumps(about, indent=1))
    with tempfile.TemporaryDirectory() as folder:
        rows = {name: compared(name, chosen, Path(folder)) for name in chosen.codecs}
    if chosen.json:
        chosen.json.write_text(json.dumps(stored(about, rows), indent=1) + "\n", "utf-8")
    return None


if __name__ == "__main__":
    main()
