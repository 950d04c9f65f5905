"""How many operations a call takes, as torch counts them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode


@torch.no_grad()
def flops(call: Callable[[], object]) -> int:
    """FLOPs of a call without gradients: matrix products and convolutions, a multiply-add as two.

    FFTs, recurrent layers' own kernels and what is done element by element are not counted.
    """
    with FlopCounterMode(display=False) as counted:
        call()
    return counted.get_total_flops()
