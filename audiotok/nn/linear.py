"""Linear maps without gradients by oneDNN, where it uses wider vectors of the CPU than torch does.

torch computes matrix products on x86 by MKL, which keeps to vectors of 256 bits on CPUs not of
Intel's making. oneDNN, which comes with torch too, uses all 512: twice the speed on a Zen 5. With
it the result for a row does not depend on how many other rows there are; with MKL its last bits
may.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiotok.nn.derived import Derived
from audiotok.nn.int8 import Int8Weight, int8_linear, quantized

FEWEST_ROWS = 8  # with fewer, MKL is faster
LINEAR = getattr(torch.ops.mkldnn, "_linear_pointwise", None)  # None: torch without oneDNN

WIDE = torch.backends.cpu.get_cpu_capability() == "AVX512"  # vectors of 512 bits


class Linear(nn.Linear):
    """Linear map as `nn.Linear`, with the same parameters, computed by `linear`.

    Attributes:
        int8: integers of the weights, by which it is computed without gradients; None by default.
            The parameters stay, and with gradients they are used.
    """

    int8: Derived[Int8Weight] | None = None

    def forward(self, input: Tensor) -> Tensor:
        """Return `input @ weight.T + bias`."""
        if self.int8 is None or torch.is_grad_enabled():
            return linear(input, self.weight, self.bias)
        weight = self.int8.of((self.weight,), lambda: quantized(self.weight))
        return int8_linear(input, weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return `x @ weight.T + bias`, the features of `x` last, by the faster library.

    Args:
        x: `[... d]`.
        weight: `[e d]`.
        bias: `[e]`; none if None.

    Returns:
        `[... e]`.
    """
    if LINEAR is None or not _wide(x, weight):
        return F.linear(x, weight, bias)
    # It takes other layouts too, and a thousand times as long for them.
    if not weight.T.is_contiguous():
        weight = weight.contiguous()
    return LINEAR(x.contiguous(), weight, bias, "none", [], "")


def _wide(x: Tensor, weight: Tensor) -> bool:
    """Return whether oneDNN can compute a product, and is worth its overhead."""
    return (
        WIDE
        and not torch.is_grad_enabled()
        and type(x) is Tensor  # not one of a program that is being traced
        and not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.numel() >= FEWEST_ROWS * x.shape[-1] > 0
        and torch.backends.mkldnn.enabled
        and not torch.is_autocast_enabled("cpu")
    )
