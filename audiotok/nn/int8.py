"""Linear maps without gradients in 8-bit integers, on CPUs that multiply those faster than floats.

Every row of the input, and the weights of every output feature, have a scale of their own: their
largest magnitude is 127. Sums of integers are exact and every other operation is rounded by itself,
so the result for a row depends on that row alone, to the bit: on no other row of a batch, and not
on how a recording is cut. A scale for the whole input, as torch's and onnxruntime's dynamic
quantization have it, would break that.

Source: Dettmers et al. 2022, arXiv:2208.07339, section 3.1 (vector-wise quantization).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from audiotok._platform.errors import InputError

LARGEST = 127
PRODUCT: Any = getattr(torch, "_int_mm", None)  # None: a torch without it


class Int8Weight(NamedTuple):
    """Weights of a linear map as integers.

    Attributes:
        values: int8 `[d e]`, the transposed weights over their scales.
        scales: `[e]`.
    """

    values: Tensor
    scales: Tensor


def quantized(weight: Tensor) -> Int8Weight:
    """Return weights `[e d]` as integers, rounded to the nearest."""
    scales = _scales(weight)
    return Int8Weight((weight / scales).round().to(torch.int8).T.contiguous(), scales[:, 0])


def int8_linear(x: Tensor, weight: Int8Weight, bias: Tensor | None = None) -> Tensor:
    """Return `x @ weight.T + bias` for inputs `[... d]`, computed in integers.

    Raises:
        ValueError: the input is not float32 on the CPU.
    """
    if x.device.type != "cpu" or x.dtype != torch.float32:
        kind = f"{str(x.dtype).removeprefix('torch.')} on {x.device}"
        raise InputError(f"8-bit integers stand for float32 on the CPU, not for {kind}")
    rows = x.reshape(-1, x.shape[-1])
    if not len(rows):
        return x.new_zeros(*x.shape[:-1], len(weight.scales))
    scales = _scales(rows)
    integers = (rows / scales).round_().to(torch.int8)
    # One operation at a time: a fused one is rounded otherwise in some shapes.
    y = PRODUCT(integers, weight.values).float().mul_(weight.scales).mul_(scales)
    return (y if bias is None else y.add_(bias)).view(*x.shape[:-1], -1)


def is_exact(rows: int) -> bool:
    """Return whether a product of the largest integers is right: some CPUs saturate the sums."""
    x = torch.full((rows, 1152), LARGEST, dtype=torch.int8)
    x[:, 1::3] = -LARGEST
    weight = x[:1].expand(48, -1).T.contiguous()
    weight[:, 1::2] *= -1
    return torch.equal(PRODUCT(x, weight).long(), x.long() @ weight.long())


def _scales(rows: Tensor) -> Tensor:
    """Return the scale `[r 1]` of each row `[r d]`; rows of zeros have one too."""
    least = torch.finfo(rows.dtype).tiny
    return rows.abs().amax(1, keepdim=True).div_(LARGEST).clamp_min_(least)


def rows_in_8_bits(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return a matrix as integers from -127 to 127, and the scale of each row in half precision.

    The product of the two gives the same integers and scales again.

    Args:
        weight: `[rows ...]`.
    """
    rows = weight.flatten(1)
    scale = (rows.abs().amax(1) / 127).half().clamp(min=2**-14)  # not subnormal
    integers = (rows / scale.float()[:, None]).round().clamp(-127, 127).to(torch.int8)
    return integers.view(weight.shape), scale


def from_8_bits(integers: Tensor, scale: Tensor) -> Tensor:
    """Return the matrix of `rows_in_8_bits` as float32."""
    return (integers.flatten(1) * scale.float()[:, None]).view(integers.shape)
