"""Devices of torch: which can be used on this machine."""

from __future__ import annotations

import torch

from audiotok._platform.console import UsageError


class DeviceError(UsageError):
    """Error for a device that does not exist, or cannot be used on this machine."""


def usable_device(device: str | torch.device) -> torch.device:
    """Return a device, after checking that tensors can be made on it.

    Args:
        device: a torch device, as "cpu", "cuda", "cuda:1" or "mps".

    Raises:
        DeviceError: there is no such device here; the message lists those there are.
    """
    try:
        known = torch.device(device)
        torch.empty(0, device=known)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        why = str(error).partition("\n")[0].partition(". ")[0]
        raise DeviceError(f"device {device}: {why}; there is {_available()} here") from None
    if known.type == "meta":
        raise DeviceError(f"device {device}: holds no values; there is {_available()} here")
    return known


def _available() -> str:
    """Return the devices of this machine."""
    cuda = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return ", ".join(["cpu", *cuda, *mps])
