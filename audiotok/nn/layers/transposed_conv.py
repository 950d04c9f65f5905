"""Transposed convolutions along time, causal or with look-ahead.

Weights are plain, as in conv.py.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiotok._platform.errors import InputError
from audiotok._platform.shapes import Features, Output
from audiotok.nn.derived import Derived
from audiotok.nn.layers.base import Layer, Span, State, interleave
from audiotok.nn.linear import linear


class TransposedConv(Layer):
    """Transposed convolution `[b inputs t]` to `[b outputs t*stride]`.

    Each input is added to `kernel` outputs, which begin `stride` after those of the previous input:

        input 0    |--------kernel--------|
        input 1    |-stride-|--------kernel--------|
        causal     |<------- t * stride ---->|       the rest comes with the next input
        otherwise      |<------- t * stride ---->|   half is cut on either side, more before if odd

    Args:
        inputs: number of input features.
        outputs: number of output features.
        kernel: number of outputs that one input is added to; at least `stride`.
        stride: outputs per input.
        groups: number of separate groups of features.
        bias: whether a constant is added to each output feature.
        causal: whether outputs depend on no later input; if not, a step lags.
        trim: outputs to cut before and after if not causal; half on either side if None. DAC cuts
            ceil(stride / 2) on both sides: at an odd stride, one output less than t * stride.
        norm: normalisation before the cut, if not causal: EnCodec 48 kHz normalises over the clip
            including the outputs that it then cuts.

    Source: as `Conv`; Mimi (Défossez et al. 2024, arXiv:2410.00037) runs it in steps in the same
    way.

    Raises:
        ValueError: the kernel is shorter than the stride, or a causal layer has `trim` or `norm`.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int,
        groups: int = 1,
        bias: bool = True,
        causal: bool = True,
        trim: tuple[int, int] | None = None,
        norm: Layer | None = None,
    ) -> None:
        super().__init__()
        self.overlap = kernel - stride
        if self.overlap < 0:
            raise InputError(f"kernel {kernel} leaves gaps at stride {stride}")
        if causal and (trim or norm):
            raise InputError("a causal transposed convolution cuts nothing: no trim, no norm")
        self.conv = nn.ConvTranspose1d(
            inputs, outputs, kernel, stride=stride, groups=groups, bias=bias
        )
        interleave(self.conv)
        self.before = -(-self.overlap // stride)  # inputs before one that its outputs depend on
        self.uneven = self.overlap % stride > 0
        self._maps: Derived[tuple[Tensor, Tensor | None]] = Derived()
        self.produces = stride
        self.causal = causal
        self.norm = norm
        self.divides = norm is None
        half = self.overlap // 2
        if trim is None:
            trim = (0, self.overlap) if causal else (self.overlap - half, half)
        self.left = trim[0]
        self.right = trim[1]

    def start(self, batch: int) -> State:
        """See `Layer.start`; past inputs that the next outputs depend on.

        If not causal, also inputs that wait, and which signals have no output yet.
        """
        past = self.zeros(batch, self.conv.in_channels, self.before)
        if self.causal:
            return past
        waiting = self.zeros(batch, self.conv.in_channels, 0)
        return past, waiting, torch.ones(batch, dtype=torch.bool, device=past.device)

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Layer.step`."""
        if self.causal:
            return self._overlapped(x, state), self._last(x, state)
        past, waiting, fresh = state
        if fresh.all():
            x = self.joined(waiting, x)
            # There is no output until there are more than are cut.
            if self.norm or x.shape[2] * self.produces <= self.left:
                return x.new_zeros(len(x), self.conv.out_channels, 0), (past, x, fresh)
        y = self._overlapped(x, past)
        cut = self.left if fresh.all() else 0
        after = self._last(x, past), waiting[:, :, :0], torch.zeros_like(fresh)
        return y[:, :, cut:], after

    def _last(self, x: Tensor, past: Tensor) -> Tensor:
        """Return the inputs to keep."""
        if x.shape[2] < self.before:
            x = self.joined(past, x)
        return x[:, :, x.shape[2] - self.before :]

    def finish(self, x: Features, state: State) -> Output:
        """See `Layer.finish`."""
        if self.causal:
            return self.step(x, state)[0]
        past, waiting, fresh = state
        if fresh.all():
            return self.forward(self.joined(waiting, x))
        return self._overlapped(x, past, self.overlap - self.right)

    def _overlapped(self, x: Tensor, past: Tensor, more: int = 0) -> Output:
        """Return `t * stride` outputs, and as many more that depend on no further input."""
        count = x.shape[2] * self.produces + more
        if not count:
            return x.new_zeros(len(x), self.conv.out_channels, 0)
        x, groups = self.joined(past, x), self.conv.groups
        weight, bias = self.conv.weight, self.conv.bias
        weights = [weight] if bias is None else [weight, bias]
        learns = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in weights)
        if learns or groups > 1 or self.uneven:
            begin = self.before * self.produces
            y = F.conv_transpose1d(x, weight, bias, stride=self.produces, groups=groups)
            # With the features of a step contiguous in memory, as convolutions return them.
            y = y[:, :, begin : begin + count]
            return y.transpose(1, 2).contiguous().transpose(1, 2)
        # One matrix product of each input with those before it gives the outputs of one stride: on
        # a CPU this is 1.3 to 3 times as fast.
        x, steps = x.transpose(1, 2), -(-count // self.produces)
        x = F.pad(x, (0, 0, 0, self.before + steps - x.shape[1]))
        x = torch.cat([x[:, i : i + steps] for i in range(self.before + 1)], 2)
        y = linear(x, *self._maps.of(weights, self._map), module=self.conv)
        return y.view(len(x), -1, self.conv.out_channels).transpose(1, 2)[:, :, :count]

    def _map(self) -> tuple[Tensor, Tensor | None]:
        """Return weights `[stride*outputs inputs*taps]`, and constants, of a stride of outputs."""
        taps = self.conv.weight.detach().unflatten(2, (-1, self.produces)).flip(2)
        constants = self.conv.bias
        if constants is not None:
            constants = constants.detach().repeat(self.produces)
        return taps.permute(3, 1, 2, 0).flatten(2).flatten(0, 1).contiguous(), constants

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`."""
        if self.norm is not None:
            y = self.norm(self.conv(x))
            return y[:, :, self.left : y.shape[2] - self.right]
        past = self.zeros(len(x), self.conv.in_channels, self.before)
        more = 0 if self.causal else self.overlap - self.right
        return self._overlapped(x, past, more)[:, :, self.left :]

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; the inputs whose kernels cover the outputs."""
        lo: int | float = first + self.left
        hi: int | float = last + self.left
        if self.norm is not None:
            lo, hi = self.norm.input_span(first + self.left, last + self.left)
        if isinstance(lo, int):
            lo = -((self.overlap + self.produces - 1 - lo) // self.produces)
        return lo, hi // self.produces if isinstance(hi, int) else hi
