"""Count of floating-point operations of a call, as torch counts them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode


@torch.no_grad()
def flops(call: Callable[[], object]) -> int:
    """Count the FLOPs of a call without gradients; a multiply-add counts as two.

    Only matrix products and convolutions are counted: not FFTs, the kernels of recurrent layers or
    elementwise operations.
    """
    with FlopCounterMode(display=False) as counted:
        call()
    return counted.get_total_flops()
