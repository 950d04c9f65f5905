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

from audiotok.nn import onednn
from audiotok.nn.derived import Derived
from audiotok.nn.int8 import Int8Weight, int8_linear, quantized

FEWEST_ROWS = 8  # with fewer, MKL is faster
FEWEST_KEPT = 2  # with fewer, MKL is as fast, though weights are kept in the order of oneDNN

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
            return linear(input, self.weight, self.bias, module=self)
        weight = self.int8.of((self.weight,), lambda: quantized(self.weight))
        return int8_linear(input, weight, self.bias)


def linear(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, module: nn.Module | None = None
) -> Tensor:
    """Return `x @ weight.T + bias`, the features of `x` last, by the faster library.

    Args:
        x: `[... d]`.
        weight: `[e d]`.
        bias: `[e]`; none if None.
        module: whose weight it is; without one it is ordered anew in each call.

    Returns:
        `[... e]`.
    """
    fewest = FEWEST_ROWS if module is None else FEWEST_KEPT
    wide = WIDE and onednn.LINEAR is not None and x.numel() >= fewest * x.shape[-1] > 0
    if not wide or not onednn.computes(x, weight):
        return F.linear(x, weight, bias)
    return onednn.linear(x, weight, bias, module)
