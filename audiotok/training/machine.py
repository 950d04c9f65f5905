"""Devices and processes: what accelerate is used for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor, nn

from audiotok._platform.errors import InputError
from audiotok._platform.optional import optional_import
from audiotok.nn.device import usable_device
from audiotok.nn.finite import not_finite

if TYPE_CHECKING:
    from accelerate import Accelerator
else:
    Accelerator = optional_import("accelerate", extra="train").Accelerator

Casting = Callable[[], torch.autocast]


def accelerator(device: str) -> Accelerator:
    """Return the accelerator of one device, or of several under `accelerate launch` or `torchrun`.

    Args:
        device: a torch device.

    Raises:
        DeviceError: the device is not available.
    """
    kind = usable_device(device).type
    # Mixed precision of accelerate lasts as long as the process; `casting` is for one run.
    return Accelerator(cpu=kind == "cpu", mixed_precision="no")


def casting(machine: Accelerator, precision: Literal["fp32", "bf16"]) -> Casting:
    """Return a function that makes the autocast context in which networks run."""
    enabled = precision == "bf16"
    return partial(torch.autocast, machine.device.type, torch.bfloat16, enabled=enabled)


def average_gradients(machine: Accelerator, parameters: Iterable[nn.Parameter]) -> None:
    """Average gradients over processes, in one message.

    Not torch's DistributedDataParallel: discriminators get their gradients from `autograd.grad`,
    which its hooks do not see. Every process must have gradients of the same parameters.
    """
    if machine.num_processes == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    mean = cast("Tensor", machine.reduce(torch.cat([s.flatten() for s in gradients]), "mean"))
    for gradient, part in zip(gradients, mean.split([s.numel() for s in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def any_process(machine: Accelerator, mine: bool) -> bool:
    """Return whether `mine` is true in any process, so that all stop at the same step."""
    if machine.num_processes == 1:
        return mine
    votes = machine.reduce(torch.tensor(float(mine), device=machine.device), "sum")
    return cast("Tensor", votes).item() > 0


def optimizer_step(
    machine: Accelerator,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    rate: float,
    clip: float,
) -> Tensor:
    """Average gradients over processes, clip them and make one step of an optimizer.

    Args:
        machine: the processes.
        module: the module whose parameters have gradients; they are cleared afterwards.
        optimizer: optimizer of the module.
        rate: learning rate of this step.
        clip: highest norm of the gradient.

    Returns:
        The norm of the gradient before clipping.
    """
    for group in optimizer.param_groups:
        group["lr"] = rate
    parameters = [p for p in module.parameters() if p.grad is not None]
    average_gradients(machine, parameters)
    norm = nn.utils.clip_grad_norm_(parameters, clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm


def save_state(state: dict[str, Any], path: Path) -> None:
    """Write the state from which a run resumes; the old file stays until the new one is complete.

    Raises:
        ValueError: the state holds NaN or infinity; the old file stays.
    """
    problem = not_finite(state)
    if problem:
        raise InputError(
            f"{path}: not written, since {problem[0]} holds {problem[1]}: the training diverged; "
            "run again to go on from the last checkpoint, at a lower train.rate"
        )
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
