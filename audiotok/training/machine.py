"""Devices and processes: what accelerate is used for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from audiotok.nn.finite import not_finite

Casting = Callable[[], torch.autocast]


def accelerator(device: str) -> Accelerator:
    """What places modules on one device, or several under `accelerate launch` or `torchrun`.

    Raises:
        ValueError: the device is not there.
    """
    kind = torch.device(device).type
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"--device {device}: there is none here; leave it out for the CPU")
    # Its mixed precision is for the life of the process: `casting` is for one run.
    return Accelerator(cpu=kind == "cpu", mixed_precision="no")


def casting(machine: Accelerator, precision: Literal["fp32", "bf16"]) -> Casting:
    """Makes the context that networks run in."""
    enabled = precision == "bf16"
    return partial(torch.autocast, machine.device.type, torch.bfloat16, enabled=enabled)


def average_gradients(machine: Accelerator, parameters: Iterable[nn.Parameter]) -> None:
    """Mean gradients over processes, in one message.

    Not torch's DistributedDataParallel: discriminators get their gradients from `autograd.grad`,
    which its hooks do not see. Every process must have gradients of the same parameters.
    """
    if machine.num_processes == 1:
        return
    slopes = [p.grad for p in parameters if p.grad is not None]
    mean = cast("Tensor", machine.reduce(torch.cat([s.flatten() for s in slopes]), "mean"))
    for slope, part in zip(slopes, mean.split([s.numel() for s in slopes]), strict=True):
        slope.copy_(part.view_as(slope))


def any_process(machine: Accelerator, mine: bool) -> bool:
    """Whether any process says so: all have to stop at the same step."""
    if machine.num_processes == 1:
        return mine
    votes = machine.reduce(torch.tensor(float(mine), device=machine.device), "sum")
    return cast("Tensor", votes).item() > 0


def move(
    machine: Accelerator,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    rate: float,
    clip: float,
) -> Tensor:
    """Gradients of all processes to one step of an optimizer; the norm that they had."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    parameters = [p for p in module.parameters() if p.grad is not None]
    average_gradients(machine, parameters)
    norm = nn.utils.clip_grad_norm_(parameters, clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm


def save_state(state: dict[str, Any], path: Path) -> None:
    """Writes what a run goes on from. The old one stays until the new one is whole.

    Raises:
        ValueError: there is NaN or infinity in it; the old one stays.
    """
    found = not_finite(state)
    if found:
        raise ValueError(
            f"{path}: not written, since {found[0]} holds {found[1]}: the training diverged; run "
            "again to go on from the last checkpoint, at a lower train.rate"
        )
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
