"""Count of floating-point operations of a call, as torch counts them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import torch
from torch.utils.flop_counter import FlopCounterMode

from audiotok.nn import onednn


@torch.no_grad()
def flops(call: Callable[[], object]) -> int:
    """Count the FLOPs of a call without gradients; a multiply-add counts as two.

    Only matrix products and convolutions are counted: not FFTs, the kernels of recurrent layers or
    elementwise operations.
    """
    by_onednn = {onednn.LINEAR: _linear_flops, onednn.CONVOLUTION: _convolution_flops}
    with FlopCounterMode(display=False, custom_mapping=by_onednn) as counted:
        call()
    return counted.get_total_flops()


def _linear_flops(x: Sequence[int], weight: Sequence[int], *_: object, **__: object) -> int:
    """Count the FLOPs of a linear map by oneDNN, which is not in torch's list."""
    return 2 * prod(x) * weight[0]


def _convolution_flops(
    x: Sequence[int],
    weight: Sequence[int],
    *_: object,
    out_shape: Sequence[int],
    **__: object,
) -> int:
    """Count the FLOPs of a convolution by oneDNN."""
    return 2 * prod(weight) * x[0] * prod(out_shape[2:])
