"""The training loop: resumes from its last checkpoint, validates, keeps averaged weights."""

from __future__ import annotations

import copy
import csv
import json
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from audiotok import checkpoint
from audiotok.codecs.base import Codec
from audiotok.data import Pool, crops, read_manifest
from audiotok.recipe import Recipe, Train
from audiotok.registry import find
from audiotok.train import losses

LOSSES = {
    "waveform": lambda made, wave, rate: losses.waveform(made, wave),
    "mel": lambda made, wave, rate: losses.mel(made, wave, rate=rate),
    "spectrum": lambda made, wave, rate: losses.spectrum(made, wave),
    "complex_spectrum": lambda made, wave, rate: losses.complex_spectrum(made, wave),
}


def learning_rate(step: int, train: Train) -> float:
    """Warm-up, a plateau, then a linear cooldown to zero."""
    up = min(1.0, (step + 1) / max(1, train.warmup))
    down = min(1.0, (train.steps - step) / max(1, train.cooldown))
    return train.rate * up * max(0.0, down)


def draw_keep(batch: int, codebooks: int, whole: float, *, seed: tuple[int, int]) -> Tensor:
    """Codebooks to use for each crop: all with probability `whole`, else 1 to all."""
    random = torch.Generator().manual_seed(hash(seed) & 0x7FFFFFFF)
    some = torch.randint(1, codebooks + 1, (batch,), generator=random)
    return torch.where(torch.rand(batch, generator=random) < whole, codebooks, some)


def build(recipe: Recipe) -> Codec:
    """The recipe's codec, with new weights."""
    kind = find("codecs", recipe.codec)
    base = kind.config_type()
    unknown = set(recipe.config) - set(vars(base))
    if unknown:
        raise ValueError(f"[config]: unknown {sorted(unknown)}; known: {', '.join(vars(base))}")
    torch.manual_seed(recipe.train.seed)
    return kind(replace(base, **recipe.config))


def train(recipe: Recipe, out: str | Path, *, device: str = "cpu", minutes: float = 0) -> Path:
    """Train to `out/last.pt`, with averaged weights in `out/best.safetensors`.

    Run again with the same `out` to go on where it stopped.

    Args:
        recipe: what to train.
        out: a folder.
        device: a torch device.
        minutes: stop after so many, checkpointed; 0 for no limit.

    Returns:
        The path of the averaged weights.
    """
    # Denormals in the optimiser's state cost eight times the time of a step on a CPU.
    torch.set_flush_denormal(True)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    console, began = Console(), time.monotonic()
    known = [*LOSSES, "commitment"]
    unknown = set(recipe.loss) - set(known)
    if unknown:
        raise ValueError(f"[loss]: unknown {sorted(unknown)}; known: {', '.join(known)}")

    codec = build(recipe).to(device).train()
    average = copy.deepcopy(codec).eval().requires_grad_(False)
    matrices = [p for p in codec.parameters() if p.ndim > 1]
    vectors = [p for p in codec.parameters() if p.ndim < 2]
    options = recipe.train
    optimizer = torch.optim.AdamW(
        [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}],
        lr=options.rate,
        betas=(0.8, 0.99),
        weight_decay=options.weight_decay,
        fused=True,
    )
    step, best, seconds = 0, math.inf, 0.0
    last = out / "last.pt"
    if last.is_file():
        saved = torch.load(last, map_location=device, weights_only=True)
        codec.load_state_dict(saved["codec"])
        average.load_state_dict(saved["average"])
        optimizer.load_state_dict(saved["optimizer"])
        torch.set_rng_state(saved["random"].cpu())
        step, best, seconds = saved["step"], saved["best"], saved["seconds"]
        console.print(f"resuming at step {step}")

    data, rate = recipe.data, codec.sample_rate
    manifest = Path(data.manifest)
    pool = Pool.build(read_manifest(manifest, split=data.train), rate, data.cache)
    held = Pool.build(read_manifest(manifest, split=data.validate), rate, data.cache)
    frames = round(data.seconds * codec.frame_rate)
    length = frames * codec.frame_size
    fixed = next(crops(held, batch=64, length=2 * length, seed=1, step=0)).to(device)
    batches = crops(pool, batch=data.batch, length=length, seed=options.seed, step=step)

    def save(row: dict[str, Any]) -> None:
        nonlocal best
        saved = {
            "codec": codec.state_dict(),
            "average": average.state_dict(),
            "optimizer": optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "step": step,
            "best": min(best, row["validation"]),
            "seconds": seconds,
        }
        part = last.with_suffix(".part")
        torch.save(saved, part)
        part.replace(last)
        if row["validation"] <= best:
            best = row["validation"]
            checkpoint.save(average, out / "best.safetensors", card=row)

    def log(row: dict[str, Any]) -> None:
        path = out / "log.csv"
        new = not path.is_file()
        with path.open("a", newline="") as lines:
            writer = csv.DictWriter(lines, list(row))
            if new:
                writer.writeheader()
            writer.writerow(row)
        console.print(json.dumps(row))

    sums: dict[str, float] = {}
    since, lap = 0, time.monotonic()
    while step < options.steps:
        wave = next(batches).to(device)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, options)
        keep = draw_keep(len(wave), codec.codebooks, options.whole, seed=(options.seed, step)).to(
            device
        )
        made, quantized = codec(wave, keep)
        terms = {name: LOSSES[name](made, wave, rate) for name in recipe.loss if name in LOSSES}
        terms |= {k: v for k, v in quantized.losses.items() if k in recipe.loss}
        total = sum((recipe.loss[k] * v for k, v in terms.items()), wave.new_zeros(()))
        if not torch.isfinite(total):
            raise ValueError(
                f"step {step}: the loss is {total.item()} on batch {step} of seed {options.seed}; "
                f"run again to go on from the last checkpoint in {out}, at a lower train.rate"
            )
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(codec.parameters(), options.clip)
        optimizer.step()
        step, since = step + 1, since + 1
        decay = min(options.ema, (step + 1) / (step + 10))
        with torch.no_grad():
            for mine, theirs in zip(average.parameters(), codec.parameters(), strict=True):
                mine.lerp_(theirs, 1 - decay)
            for mine, theirs in zip(average.buffers(), codec.buffers(), strict=True):
                mine.copy_(theirs)
        for key, value in {**terms, "gradient": norm}.items():
            sums[key] = sums.get(key, 0.0) + value.item()
        late = minutes > 0 and time.monotonic() - began > 60 * minutes
        if step % options.every == 0 or step == options.steps or late:
            took = time.monotonic() - lap
            seconds += took
            row = {
                "step": step,
                "hours": round(seconds / 3600, 3),
                "speed": round(since * data.batch * data.seconds / took, 1),
                "rate": learning_rate(step, options),
                **{key: round(value / since, 5) for key, value in sums.items()},
                **validate(average, fixed, rate, recipe.loss),
            }
            log(row)
            save(row)
            sums, since, lap = {}, 0, time.monotonic()
        if late:
            break
    return out / "best.safetensors"


@torch.no_grad()
def validate(codec: Codec, wave: Tensor, rate: int, weights: dict[str, float]) -> dict[str, Any]:
    """Losses of all codebooks on held-out crops, and how much of each codebook is in use."""
    made, quantized = codec(wave)
    values = {k: LOSSES[k](made, wave, rate).item() for k in weights if k in LOSSES}
    used = [
        len(codes.unique()) / size
        for codes, size in zip(quantized.codes.transpose(0, 1), codec.sizes, strict=True)
    ]
    return {
        "validation": round(sum(weights[k] * v for k, v in values.items()), 5),
        **{f"held_{k}": round(v, 5) for k, v in values.items()},
        "usage_min": round(min(used), 3),
    }
