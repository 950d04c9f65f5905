"""What a recipe will cost, measured on a few steps before it starts: `audiotok train --dry-run`."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from audiotok.data.batches import Batch
from audiotok.nn.flops import flops
from audiotok.training.machine import accelerator, casting
from audiotok.training.players import Players
from audiotok.training.recipe import Recipe
from audiotok.training.step import Step, check_losses


def estimate(recipe: Recipe, *, device: str = "cpu", steps: int = 3) -> dict[str, Any]:
    """Sizes, FLOPs, memory and time of a recipe, on noise of its batch size; no data is read.

    FLOPs are those of a forward pass, matrix products and convolutions, as torch counts them (a
    backward pass takes twice as many again; FFTs and what is done element by element are not
    counted); memory is what the forward pass keeps for the
    backward one, beside weights, gradients and the optimizers' two moments. The loss
    `distillation` is left out: its cost is a linear layer.

    Args:
        recipe: what would be trained.
        device: where.
        steps: how many steps to time; the first is not counted.
    """
    check_losses(recipe)
    machine = accelerator(device)
    players = Players(recipe, machine.device)
    codec, data = players.codec, recipe.data
    work = Step(recipe, players, None, cast=casting(machine, recipe.train.precision))
    frames = max(1, round(data.seconds * codec.frame_rate))
    batch = _noise(data.batch, frames, codec.frame_size).to(machine.device)
    # Late enough for the discriminators to take part in full.
    late = recipe.adversary.start + recipe.adversary.delay
    late += -late % recipe.adversary.every
    heard = len(batch) * frames * codec.frame_size / codec.sample_rate

    own = {p.untyped_storage().data_ptr() for p in codec.parameters()}
    kept: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        place = x.untyped_storage().data_ptr()
        if place not in own:
            kept[place] = x.untyped_storage().nbytes()
        return x

    with saved_tensors_hooks(keep, lambda x: x):
        work(batch, late, 0)
    coding = flops(lambda: codec(batch.wave))
    judges = players.judges
    judging = flops(lambda: judges(batch.wave)) if judges else 0
    took = []
    for _ in range(steps):
        began = time.monotonic()
        work(batch, late, 0)
        if machine.device.type == "cuda":
            torch.cuda.synchronize()
        took.append(time.monotonic() - began)
    second = sorted(took)[len(took) // 2]
    learnt = sum(p.numel() for p in codec.parameters())
    theirs = sum(p.numel() for p in players.judges.parameters()) if players.judges else 0
    whole = recipe.train.steps * recipe.train.accumulate
    return {
        "codec": codec.name,
        "parameters": codec.parameters_total,
        "encoder": sum(p.numel() for p in codec.encoder.parameters()),
        "decoder": sum(p.numel() for p in codec.decoder.parameters()),
        "discriminators": theirs,
        "gflops_per_second_of_audio": coding / heard / 1e9,
        "gflops_of_discriminators": judging / heard / 1e9,
        "mb_per_second_of_audio": sum(kept.values()) / heard / 1e6,
        "mb_of_weights_and_optimizers": 4 * 4 * (learnt + theirs) / 1e6,
        "seconds_a_step": second * recipe.train.accumulate,
        "audio_seconds_a_second": heard / second,
        "hours": whole * second / 3600,
        "hours_of_audio": whole * heard / 3600,
        "device": str(machine.device),
    }


def _noise(batch: int, frames: int, size: int) -> Batch:
    random = torch.Generator().manual_seed(0)
    wave = 0.1 * torch.randn(batch, 1, frames * size, generator=random)
    return Batch(
        wave=wave,
        clean=wave,
        features=None,
        taught=None,
        real=torch.ones(batch, frames, dtype=torch.bool),
        recordings=list(range(batch)),
        starts=[0] * batch,
        text=[""] * batch,
        skipped=[],
    )
