"""Cost of a training recipe, measured on a few steps before it starts (`--dry-run`)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from string import ascii_lowercase
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from audiotok.data.batches import Batch
from audiotok.nn.flops import flops
from audiotok.training.components import TrainingModules
from audiotok.training.machine import accelerator, casting
from audiotok.training.recipe import Recipe
from audiotok.training.recognizer import Transcripts
from audiotok.training.step import Step, check_losses


def estimate(recipe: Recipe, *, device: str = "cpu", steps: int = 3) -> dict[str, Any]:
    """Measure sizes, FLOPs, memory and time of a recipe on noise of its batch size.

    No data is read. FLOPs are those of a forward pass, matrix products and convolutions, as torch
    counts them (a backward pass takes twice as many again; FFTs and element-wise operations are
    not counted). Memory is what the forward pass keeps for the backward pass, beside weights,
    gradients and the optimizers' two moments. The loss `distillation` is left out: its cost is a
    linear layer.

    Args:
        recipe: the recipe to measure.
        device: a torch device.
        steps: number of steps to time, after one that is not timed.

    Returns:
        Names of the measured values -> values, as `audiotok train --dry-run` prints them.
    """
    check_losses(recipe)
    machine = accelerator(device)
    modules = TrainingModules(recipe, machine.device)
    transcripts = None
    if "ctc" in recipe.used_losses:
        modules.add_recognizer(ascii_lowercase)
        transcripts = Transcripts([[1, 2, 3]] * recipe.data.batch)
    codec, data = modules.codec, recipe.data
    work = Step(recipe, modules, None, transcripts, cast=casting(machine, recipe.train.precision))
    again = modules.resynthesis
    size = again.group_samples if again else codec.frame_size
    frames = max(1, round(data.seconds * codec.sample_rate / size))
    batch = _noise(data.batch, frames, size).to(machine.device)
    run: Callable[[], Any] = partial(codec, batch.wave)
    if again:
        batch = replace(batch, features=again.noise(batch.wave))
        run = partial(again, codec, batch)
    # A step at which the discriminators are updated and their losses reach the codec.
    full_step = recipe.adversary.start + recipe.adversary.delay
    full_step = max(full_step, *recipe.loss_start.values(), 0)
    full_step += -full_step % recipe.adversary.every
    audio_seconds = len(batch) * frames * size / codec.sample_rate

    weight_storages = {p.untyped_storage().data_ptr() for p in codec.parameters()}
    kept: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        pointer = x.untyped_storage().data_ptr()
        if pointer not in weight_storages:
            kept[pointer] = x.untyped_storage().nbytes()
        return x

    with saved_tensors_hooks(keep, lambda x: x):
        work(batch, full_step, 0)
    codec_flops = flops(run)
    discriminators = modules.discriminators
    discriminator_flops = flops(lambda: discriminators(batch.wave)) if discriminators else 0
    times = []
    for _ in range(steps):
        start = time.monotonic()
        work(batch, full_step, 0)
        if machine.device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.monotonic() - start)
    step_seconds = sorted(times)[len(times) // 2]
    codec_parameters = sum(p.numel() for p in codec.parameters())
    discriminator_parameters = (
        sum(p.numel() for p in discriminators.parameters()) if discriminators else 0
    )
    batches = recipe.train.steps * recipe.train.accumulate
    return {
        "codec": codec.name,
        "parameters": codec.parameters_total,
        "encoder": sum(p.numel() for p in codec.encoder.parameters()),
        "decoder": sum(p.numel() for p in codec.decoder.parameters()),
        "discriminators": discriminator_parameters,
        "gflops_per_second_of_audio": codec_flops / audio_seconds / 1e9,
        "gflops_of_discriminators": discriminator_flops / audio_seconds / 1e9,
        "mb_per_second_of_audio": sum(kept.values()) / audio_seconds / 1e6,
        "mb_of_weights_and_optimizers": 4 * 4 * (codec_parameters + discriminator_parameters) / 1e6,
        "seconds_a_step": step_seconds * recipe.train.accumulate,
        "audio_seconds_a_second": audio_seconds / step_seconds,
        "hours": batches * step_seconds / 3600,
        "hours_of_audio": batches * audio_seconds / 3600,
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
