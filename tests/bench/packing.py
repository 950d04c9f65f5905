"""How fast packed contexts are read, beside a bare memory map, in one run.

    python tests/bench/packing.py [--tokens 200000000] [--context 1024] [--workers 0 2]

Random ids in 16 shards of the npy export, written to a temporary folder; beside them stretches of a
plain memory map, which is the least that any reader has to do.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

from audiotok.lm.layout import Layout
from audiotok.lm.packing import Packed

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--tokens", type=int, default=200_000_000)
parser.add_argument("--context", type=int, default=1024)
parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
parser.add_argument("--batch", type=int, default=16)
chosen = parser.parse_args()

SHARDS, RECORDING = 16, 4000


def written(folder: Path) -> None:
    layout = Layout(sizes=(1024,) * 8)
    layout.save(folder / "layout.json")
    made = {"to": "npy", "layout": asdict(layout)}
    (folder / "export.json").write_text(json.dumps(made))
    random = np.random.default_rng(0)
    for number in range(SHARDS):
        shard = folder / f"shard-{number:06d}.ids"
        shard.mkdir()
        n = chosen.tokens // SHARDS // RECORDING
        np.save(shard / "bounds.npy", np.arange(n + 1) * RECORDING)
        np.save(shard / "ids.npy", random.integers(5, 8197, n * RECORDING).astype(np.uint16))


def timed(what: str, made: Iterable[Any], count: int) -> None:
    began, seen = time.perf_counter(), 0
    for _ in made:
        seen += count
    took = time.perf_counter() - began
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    own, worker = (resource.getrusage(each).ru_maxrss / 1024 for each in who)
    memory = f"peak {own:.0f} MB, of a worker {worker:.0f}"
    print(f"{what:34} {seen / took / 1e6:8.1f} M tokens/s   {memory}", flush=True)


with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    written(folder)
    for workers in chosen.workers:
        data = Packed(folder, context=chosen.context)
        size = chosen.batch * chosen.context
        loader = DataLoader(data, batch_size=chosen.batch, num_workers=workers)
        timed(f"a batch a message, {workers} workers", loader, size)
        many = islice(data.batches(chosen.batch, workers=workers), chosen.tokens // size)
        timed(f"Packed.batches, {workers} workers", many, size)
    # Plain numpy: random stretches of one memory map, what nanoGPT's loader does.
    one = np.load(folder / "shard-000000.ids/ids.npy", mmap_mode="r")
    places = np.random.default_rng(0).integers(0, len(one) - chosen.context, 20000)
    stretches = (one[a : a + chosen.context + 1].astype(np.int64) for a in places.tolist())
    timed("numpy memory map, random, no batch", stretches, chosen.context)
