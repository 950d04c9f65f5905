"""Count of floating-point operations of a call, as torch counts them."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode


@torch.no_grad()
def flops(call: Callable[[], object]) -> int:
    """Count the FLOPs of a call without gradients; a multiply-add counts as two.

    Only matrix products, convolutions and recurrent layers are counted: not FFTs or elementwise
    operations.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of other devices, as oneDNN is turned off
        # Torch does not count what oneDNN computes.
        with (
            torch.backends.mkldnn.flags(enabled=False),
            FlopCounterMode(display=False) as counted,
        ):
            call()
    return counted.get_total_flops()
