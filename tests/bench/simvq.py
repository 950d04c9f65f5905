"""Use of a codebook of 65,536 entries: SimVQ beside VQ, on latents of the shipped codec.

    python tests/bench/simvq.py DATA WORK [--seeds 0 1] [--json docs/results/simvq.json]

DATA is a manifest or a folder of audio, WORK a folder that keeps latents and what has been learnt:
run again with the same arguments to go on after an interruption. `SimVQ` learns a linear map of
fixed entries (Zhu et al. 2024, arXiv:2411.02038), `VQ` the entries themselves by the same losses,
`VQ, averages` moving averages with revival of dead entries. Entries in use and perplexity
(2^entropy) are of all frames at the end, and of `--over` where those are more than were learnt
from; the curve counts a fixed part of them on the way, beside what as many uniform draws would hit.
`lost` is the share of the variance of held-out latents that decoding does not restore.
`<!-- results: simvq -->` in a page of docs is the table of the JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from itertools import islice, product
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from clips import ROOT, commit, machine
from torch import Tensor

import audiotok
from audiotok._platform.atomic import atomic_file
from audiotok.data import read_manifest
from audiotok.nn import Quantizer, Rvq, Simvq

sys.path.append(str(ROOT / "egs"))
from compare_quantizers import Plain  # pyright: ignore[reportMissingImports]

TOGETHER = 8  # recordings in a file of latents
CHUNK = 2048  # frames that are coded at once
HELD_OUT = 20  # of so many files of latents the second is not learnt from
KINDS: dict[str, Callable[[int, int, int], Quantizer]] = {
    "SimVQ": lambda d, size, seed: Simvq(d, size=size, seed=seed),
    "VQ": lambda d, size, seed: Plain(d, size),
    "VQ, averages": lambda d, size, seed: Rvq(d, codebooks=1, size=size, decay=0.95, seed=seed),
}


def latents(data: str, work: Path, frames: int) -> tuple[Tensor, Tensor]:
    """Return latents `[f d]` to learn from, as many as wanted, and held-out ones."""
    work.mkdir(parents=True, exist_ok=True)
    codec = audiotok.load("speech")
    recordings = read_manifest(data)
    order = iter(Random(0).sample(recordings, len(recordings)))
    parts: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for number in range(-(-len(recordings) // TOGETHER)):
        some, file = list(islice(order, TOGETHER)), work / f"latents-{number:05d}.npy"
        if not file.exists():
            made = [_latent(codec, one.load()) for one in some]
            with atomic_file(file) as part, part.open("wb") as out:
                np.save(out, np.concatenate(made, dtype=np.float16))
        parts[number % HELD_OUT == 1].append(np.load(file))
        have = sum(map(len, parts[0]))
        print(f"\r{have:,} frames", end="", file=sys.stderr)
        if have >= frames and parts[1]:
            break
    print(file=sys.stderr)
    if sum(map(len, parts[0])) < frames or not parts[1]:
        sys.exit(f"{data}: {sum(map(len, parts[0])):,} frames to learn from, not {frames:,}")
    learnt, held = (torch.from_numpy(np.concatenate(part)) for part in parts)
    return learnt[:frames], held


@torch.no_grad()
def _latent(codec: audiotok.Codec, audio: audiotok.Audio) -> np.ndarray:
    wave = audio.mono().resample(codec.sample_rate).samples[None]
    whole = wave[:, :, : wave.shape[2] // codec.frame_size * codec.frame_size]
    return codec.latents(whole)[0].T.numpy()


def chunks(x: Tensor) -> Iterator[Tensor]:
    """Yield latents `[1 d f]` of a few frames each."""
    for some in x.split(CHUNK):
        yield some.float().T[None]


@torch.no_grad()
def used(quantizer: Quantizer, x: Tensor) -> dict[str, float]:
    """Return how much of its codebook a quantizer uses for latents `[f d]`."""
    (size,) = quantizer.sizes
    counts = torch.zeros(size, dtype=torch.int64)
    for some in chunks(x):
        counts += torch.bincount(quantizer.encode(some).ravel(), minlength=size)
    share = counts.double() / len(x)
    return {
        "in use, %": 100 * float((counts > 0).double().mean()),
        "perplexity": float(torch.special.entr(share).sum().exp()),
        "uniform draws, %": 100 * (1 - math.exp(len(x) * math.log1p(-1 / size))),
    }


@torch.no_grad()
def lost(quantizer: Quantizer, x: Tensor) -> float:
    """Return the share of the variance of latents `[f d]` that decoding does not restore."""
    parts = chunks(x)
    error = sum(float((quantizer.decode(quantizer.encode(p)) - p).square().sum()) for p in parts)
    return error / float((x.float() - x.float().mean(0)).square().sum())


def learn(name: str, seed: int, every: Tensor, held: Tensor, given: argparse.Namespace) -> Any:
    """Train a quantizer, from where an earlier run was, and return its figures and its curve."""
    x = every[: given.frames]
    torch.manual_seed(seed)
    quantizer = KINDS[name](x.shape[1], given.entries, seed)
    parameters = list(quantizer.parameters())
    optimizer = torch.optim.Adam(parameters, given.rate) if parameters else None
    draw = torch.Generator().manual_seed(seed)
    file = given.work / f"{name.replace(', ', '-')}-{seed}.pt"
    step, curve = 0, []
    if file.exists():
        state = torch.load(file, weights_only=True)
        step, curve = state["step"], state["curve"]
        quantizer.load_state_dict(state["quantizer"])
        draw.set_state(state["draw"])
        if optimizer:
            optimizer.load_state_dict(state["optimizer"])
    counted = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[: given.counted]]
    while step < given.steps:
        quantizer.train()
        some = x[torch.randint(len(x), (given.batch,), generator=draw)].float().T[None]
        output = quantizer(some)
        if optimizer:  # a codebook of moving averages has no parameters
            optimizer.zero_grad()
            ((output.latent - some).square().mean() + output.losses["commitment"]).backward()
            optimizer.step()
        step += 1
        if step % given.every == 0 or step == given.steps:
            quantizer.eval()
            curve.append({"step": step, **used(quantizer, counted)})
            print(name, f"seed {seed}", curve[-1], flush=True)
            state = {"step": step, "curve": curve, "quantizer": quantizer.state_dict()}
            state |= {"draw": draw.get_state()}
            state |= {"optimizer": optimizer.state_dict()} if optimizer else {}
            with atomic_file(file) as part:
                torch.save(state, part)
    quantizer.eval()
    return {**used(quantizer, every), "lost": lost(quantizer, held)}, curve


def whole(text: str) -> int:
    """Read a count that may stand as 1e+06."""
    return int(float(text))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("work", type=Path)
    parser.add_argument("--frames", type=whole, default=1_000_000)
    parser.add_argument("--over", type=whole, default=0, help="frames counted at the end")
    parser.add_argument("--entries", type=int, default=65_536)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--rate", type=float, default=1e-2)
    parser.add_argument("--every", type=int, default=200, help="steps between points of the curve")
    parser.add_argument("--counted", type=int, default=262_144, help="frames of a point")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--kinds", nargs="+", default=["SimVQ", "VQ"], choices=KINDS)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    x, held = latents(given.data, given.work, max(given.frames, given.over))
    scores, curves = {}, {}
    for name, seed in product(given.kinds, given.seeds):
        row, curve = learn(name, seed, x, held, given)
        scores[f"{name}, seed {seed}"], curves[f"{name}, seed {seed}"] = row, curve
        print(name, f"seed {seed}", row, flush=True)
    if given.json:
        options = ("frames", "over", "entries", "steps", "batch", "rate")
        words = " ".join(f"--{name} {getattr(given, name):g}" for name in options)
        content = {
            "command": f"python tests/bench/simvq.py DATA WORK {words}",
            "machine": f"{machine()}, shared with other work",
            "software": f"torch {torch.__version__}",
            "date": datetime.now(timezone.utc).date().isoformat(),
            "commit": commit(ROOT),
            "latents": f"of speech {audiotok.load('speech').fingerprint}, {len(held):,} held out",
            "scores": scores,
            "curves": curves,
        }
        with atomic_file(given.json) as part:
            part.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
