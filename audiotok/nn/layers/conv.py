"""Convolutions along time, causal or with look-ahead.

Weights are plain. Weight normalisation, with which most published codecs are trained, is folded
into `weight` when a checkpoint is converted.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiotok._platform.errors import InputError
from audiotok._platform.shapes import Features, Output
from audiotok.nn import onednn
from audiotok.nn.layers.base import Activation, Layer, Span, State, interleave
from audiotok.nn.linear import linear

Pad = Literal["zeros", "reflect", "repeat"]


def convolved(conv: nn.Conv1d, x: Tensor) -> Tensor:
    """Convolve `[b d t]` along the second axis of an image whose pixels are steps.

    On a CPU this needs no rearrangement of `x` whose features are contiguous, and is 1.4 to 3 times
    as fast as `conv1d`.
    """
    pad = int(conv.padding[0])
    if conv.kernel_size == conv.stride == (1,) and conv.groups == 1 and not pad:
        weight = conv.weight[:, :, 0]
        return linear(x.transpose(1, 2), weight, conv.bias, module=conv).transpose(1, 2)
    image = x[:, :, None].contiguous(memory_format=torch.channels_last)
    weight = conv.weight[:, :, None]
    shapes = (1, *conv.stride), (0, pad), (1, *conv.dilation)
    y = onednn.convolution(conv, image, weight, *shapes)
    if y is None:
        y = F.conv2d(image, weight, conv.bias, *shapes, conv.groups)
    return y[:, :, 0]


class Conv(Layer):
    """Convolution `[b inputs t]` to `[b outputs t/stride]`.

    The signal is padded by `(kernel - 1) * dilation + 1 - stride` steps:

        causal        |pad pad pad|x x x x x x x x|        all before the start
        not causal    |pad pad|x x x x x x x x|pad|        half on either side, more before if odd

    `forward` takes any length and returns `ceil(t / stride)` outputs: the end is padded further
    (by the rule of `pad`) until the last output is complete. A causal `step` takes multiples of
    `stride` only.

    Args:
        inputs: number of input features.
        outputs: number of output features.
        kernel: number of taps; with dilation they must span the stride.
        stride: inputs per output.
        dilation: distance between taps in steps.
        groups: number of separate groups of features; `inputs` for a depthwise convolution.
        bias: whether a constant is added to each output feature.
        causal: whether outputs depend on no later input; if not, a step lags.
        pad: "zeros"; "reflect", the signal mirrored at its first or last sample (EnCodec,
            SpeechTokenizer); "repeat", that sample repeated (Mimi's downsampling). With causal
            reflection the first step must be longer than the padding that mirrors it.
        lag: steps of further padding before the start of a causal layer, fewer than the stride: it
            sees the last `lag` inputs of a stride one output later (VoxCPM's AudioVAE).

    Source: EnCodec (Défossez et al. 2022, arXiv:2210.13438), `modules/conv.py`; descript's DAC
    pads the same with zeros.

    Raises:
        ValueError: the kernel is shorter than the stride, `pad` is unknown, or `lag` is none of a
            causal layer with this stride; from `step`: the length is not a multiple of the stride,
            or the first step is too short to mirror.
    """

    divides = True

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        causal: bool = True,
        pad: Pad = "zeros",
        lag: int = 0,
    ) -> None:
        super().__init__()
        self.span = (kernel - 1) * dilation + 1  # inputs that one output depends on
        if self.span < stride:
            raise InputError(f"kernel spans {self.span} steps and skips some at stride {stride}")
        if pad not in get_args(Pad):
            raise InputError(f"pad {pad!r} is none of {', '.join(get_args(Pad))}")
        if not 0 <= lag < (stride if causal else 1):
            raise InputError(f"lag {lag}: fewer steps than the stride {stride}, of a causal layer")
        self.conv = nn.Conv1d(
            inputs, outputs, kernel, stride=stride, dilation=dilation, groups=groups, bias=bias
        )
        interleave(self.conv)
        self.consumes = stride
        self.causal = causal
        self.pad = pad
        self.right = 0 if causal else (self.span - stride) // 2
        self.left = self.span - stride - self.right + lag
        # Further inputs to keep, because padding at the end may mirror them.
        self.spare = 0 if causal or pad == "zeros" else stride

    def start(self, batch: int) -> State:
        """See `Layer.start`; inputs to reuse and, unless `pad` is zeros, which signals are new."""
        past = self.zeros(batch, self.conv.in_channels, self.left)
        if self.pad == "zeros":
            return past
        past = past if self.causal else past[:, :, :0]
        return past, torch.ones(batch, dtype=torch.bool, device=past.device)

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Layer.step`."""
        return self._step(None, x, state)

    def step_after(self, first: Activation, x: Features, state: State) -> tuple[Output, State]:
        """See `Layer.step_after`."""
        if not onednn.computes(x, self.conv.weight):
            return super().step_after(first, x, state)
        return self._step(first, x, state)

    def _step(self, first: Activation | None, x: Tensor, state: State) -> tuple[Output, State]:
        if not self.causal:
            return self._step_ahead(first, x, state)
        self.refuse_partial(x)
        if not x.shape[2]:
            return self._none(x), state
        past, fresh = (state, None) if self.pad == "zeros" else state
        if fresh is not None and self.left:
            if first is not None and fresh.any():
                x, first = first(x), None
            if first is None:
                past = torch.where(fresh[:, None, None], self._before(x, fresh), past)
        x = self._after(past, first, x)
        past = x[:, :, x.shape[2] - self.left :]
        return self._convolved(x), past if fresh is None else (past, torch.zeros_like(fresh))

    def _after(self, past: Tensor, first: Activation | None, x: Tensor, right: int = 0) -> Tensor:
        """Return inputs after earlier ones, and before `right` zeros, as `joined` does.

        Args:
            past: `[b inputs p]`.
            first: what makes inputs of `x`; nothing if None.
            x: `[b d t]`.
            right: zeros at the end.
        """
        if first is None:
            return self._padded(self.joined(past, x), 0, right) if right else self.joined(past, x)
        begin, end = past.shape[2], past.shape[2] + x.shape[2]
        whole = x.new_empty(len(x), end + right, self.conv.in_channels).transpose(1, 2)
        whole[:, :, :begin] = past
        first.write(x, whole[:, :, begin:end])
        whole[:, :, end:] = 0.0
        return whole

    def _none(self, x: Tensor) -> Output:
        return x.new_zeros(len(x), self.conv.out_channels, 0)

    def _step_ahead(
        self, first: Activation | None, x: Tensor, state: State
    ) -> tuple[Output, State]:
        """Return the outputs that depend on no input still to come."""
        past, fresh = (state, None) if self.pad == "zeros" else state
        x = self._after(past, first, x)
        if fresh is not None and fresh.all():
            # Mirroring needs more inputs than it pads, at the start and, if that is near, the end.
            if x.shape[2] <= max(self.left, self.right + self.consumes - 1):
                return self._none(x), (x, fresh)
            fresh = torch.zeros_like(fresh)
            x = self.joined(self._before(x, ~fresh), x)
            x = self.joined(x.new_zeros(*x.shape[:2], self.spare), x)
        count = max(0, (x.shape[2] - self.spare - self.span) // self.consumes + 1)
        y = self._convolved(x[:, :, self.spare :]) if count else self._none(x)
        x = x[:, :, count * self.consumes :]
        return y, x if fresh is None else (x, fresh)

    def finish(self, x: Features, state: State) -> Output:
        """See `Layer.finish`."""
        return self._finish(None, x, state)

    def finish_after(self, first: Activation, x: Features, state: State) -> Output:
        """See `Layer.finish_after`."""
        if self.pad != "zeros" or not onednn.computes(x, self.conv.weight):
            return super().finish_after(first, x, state)
        return self._finish(first, x, state)

    def _finish(self, first: Activation | None, x: Tensor, state: State) -> Output:
        if self.pad == "zeros":
            left = state.shape[2] + x.shape[2] - self.left  # inputs whose outputs are missing
            if not left:
                return self._none(x)
            x = self._after(state, first, x, self.right + -left % self.consumes)
            return self._convolved(x)
        past, fresh = state
        if fresh.all():
            return self.forward(x if self.causal else self.joined(past, x))
        if self.causal and self.left and x.shape[2]:
            past = torch.where(fresh[:, None, None], self._before(x, fresh), past)
        x = self.joined(past, x)
        left = x.shape[2] - self.spare - self.left
        if not left:
            return self._none(x)
        fill = self.right + -left % self.consumes
        x = self._padded(x, 0, fill) if fill else x
        return self._convolved(x[:, :, self.spare :])

    def _before(self, x: Tensor, fresh: Tensor) -> Tensor:
        """Return the padding before a signal that begins with `x`."""
        if self.pad == "repeat":
            return x[:, :, :1].expand(-1, -1, self.left)
        if x.shape[2] <= self.left:
            if fresh.any():
                raise InputError(
                    f"the first step has {x.shape[2]} steps; mirroring the start needs more than"
                    f" {self.left}"
                )
            return x[:, :, :1]  # no signal is new, so that this is not used
        return x[:, :, 1 : self.left + 1].flip(2)

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`; t is at least 1, and the last output is padded."""
        return self._convolved(self._padded(x, self.left, self.right + -x.shape[2] % self.consumes))

    def _convolved(self, x: Tensor) -> Tensor:
        return convolved(self.conv, x)

    def _padded(self, x: Tensor, left: int, right: int) -> Tensor:
        """Return a padded signal, the features of a step contiguous in memory."""
        if self.pad == "zeros":
            return F.pad(x.transpose(1, 2), (0, 0, left, right)).transpose(1, 2)
        length = x.shape[2]
        if self.pad == "repeat":
            first = x[:, :, :1].expand(-1, -1, left)
            last = x[:, :, -1:].expand(-1, -1, right)
        else:
            # A signal too short to mirror is lengthened by zeros, as in EnCodec.
            short = max(0, max(left, right) + 1 - length)
            x = F.pad(x, (0, short)) if short else x
            first = x[:, :, 1 : left + 1].flip(2)
            last = x[:, :, -right - 1 : -1].flip(2)
        y = torch.cat([part.transpose(1, 2) for part in (first, x, last)], 1).transpose(1, 2)
        return y[:, :, : left + length + right]

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; the kernel, without mirrored inputs near the start."""
        begin = first * self.consumes - self.left
        return begin, last * self.consumes - self.left + self.span - 1
