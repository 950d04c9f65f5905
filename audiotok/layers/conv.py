"""Convolutions along time, and their transposes: causal with state, or looking ahead.

Weights are plain. Weight normalisation, which most published codecs train with, is a way to train
and not a way to run: it is folded into `weight` when a checkpoint is converted.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiotok.layers.base import Layer, Span, State
from audiotok.shapes import Features, Output

Pad = Literal["zeros", "reflect", "repeat"]


class Conv(Layer):
    """Convolution `[b inputs t]` to `[b outputs t/stride]`.

    What is missing at the ends, `(kernel - 1) * dilation + 1 - stride` steps, is padded:

        causal        |pad pad pad|x x x x x x x x|        all of it before the start
        not causal    |pad pad|x x x x x x x x|pad|        half on either side, the odd one before

    `forward` takes any length and gives `ceil(t / stride)`: the end is filled up (also by `pad`)
    until the last output is whole. `step` takes multiples of `stride` only.

    Args:
        inputs: features that come in.
        outputs: features that go out.
        kernel: taps; with dilation it must span the stride.
        stride: inputs per output.
        dilation: inputs from one tap to the next.
        groups: of features that do not see each other; `inputs` for a depthwise convolution.
        bias: whether a constant is added to each output feature.
        causal: whether outputs depend on no later input; if not, there is no `step`.
        pad: "zeros"; "reflect", the signal mirrored at its first or last sample (EnCodec,
            SpeechTokenizer); "repeat", that sample again (Mimi's downsampling). Causal reflection
            can be stepped if the first step is longer than the padding, which it mirrors.

    Source: EnCodec (Défossez et al. 2022, arXiv:2210.13438), `modules/conv.py`; descript's DAC
    pads the same with zeros.

    Raises:
        ValueError: the kernel is shorter than the stride, or no such pad; from `step`, a length
            that is no multiple of the stride, or a first step that is too short to mirror.
    """

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
    ) -> None:
        super().__init__()
        self.span = (kernel - 1) * dilation + 1  # inputs that one output sees
        if self.span < stride:
            raise ValueError(f"kernel spans {self.span} steps and skips some at stride {stride}")
        if pad not in get_args(Pad):
            raise ValueError(f"pad {pad!r} is none of {', '.join(get_args(Pad))}")
        self.conv = nn.Conv1d(
            inputs, outputs, kernel, stride=stride, dilation=dilation, groups=groups, bias=bias
        )
        self.consumes, self.causal, self.pad = stride, causal, pad
        self.right = 0 if causal else (self.span - stride) // 2
        self.left = self.span - stride - self.right

    def start(self, batch: int) -> State:
        """The last `left` inputs; unless padded by zeros, also which signals have none yet."""
        past = self.zeros(batch, self.conv.in_channels, self.left)
        if self.pad == "zeros":
            return past
        return past, torch.ones(batch, dtype=torch.bool, device=past.device)

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """Convolve `x` with what came before it."""
        if not self.causal:
            return super().step(x, state)
        self.refuse_partial(x)
        if not x.shape[2]:
            return x.new_zeros(len(x), self.conv.out_channels, 0), state
        past, fresh = (state, None) if self.pad == "zeros" else state
        if fresh is not None and self.left:
            past = torch.where(fresh[:, None, None], self._before(x, fresh), past)
        x = torch.cat([past, x], 2)
        past = x[:, :, x.shape[2] - self.left :]
        return self.conv(x), past if fresh is None else (past, torch.zeros_like(fresh))

    def finish(self, x: Features, state: State) -> Output:
        """A step of any length, filled up as `forward` does it."""
        fill = -x.shape[2] % self.consumes
        if self.pad == "zeros":
            return self.step(F.pad(x, (0, fill)), state)[0]
        past, fresh = state
        if fresh.all():
            return self.forward(x)
        if not fill:
            return self.step(x, state)[0]
        x = torch.cat([past, x], 2)
        return self.conv(F.pad(x, (0, fill), "replicate" if self.pad == "repeat" else "reflect"))

    def _before(self, x: Tensor, fresh: Tensor) -> Tensor:
        """What `pad` puts before a signal that begins with `x`."""
        if self.pad == "repeat":
            return x[:, :, :1].expand(-1, -1, self.left)
        if x.shape[2] <= self.left:
            if fresh.any():
                raise ValueError(
                    f"the first step has {x.shape[2]} steps; mirroring the start needs more than"
                    f" {self.left}"
                )
            return x[:, :, :1]  # nobody's start: not used
        return x[:, :, 1 : self.left + 1].flip(2)

    def forward(self, x: Features) -> Output:
        """The whole signal, of any length but zero: what a step gives, and a filled last output."""
        return self.conv(self._padded(x, self.left, self.right + -x.shape[2] % self.consumes))

    def _padded(self, x: Tensor, left: int, right: int) -> Tensor:
        if self.pad == "zeros":
            return F.pad(x, (left, right))
        if self.pad == "repeat":
            return F.pad(x, (left, right), "replicate")
        # A signal too short to mirror is lengthened by zeros, as in EnCodec.
        short = max(0, max(left, right) + 1 - x.shape[2])
        y = F.pad(F.pad(x, (0, short)), (left, right), "reflect")
        return y[:, :, : y.shape[2] - short]

    def reach(self, first: int, last: int) -> Span:
        """The kernel's span. Within `left` of the start, mirrored inputs are seen as well."""
        begin = first * self.consumes - self.left
        return begin, last * self.consumes - self.left + self.span - 1


class TransposedConv(Layer):
    """Transposed convolution `[b inputs t]` to `[b outputs t*stride]`.

    Each input adds `kernel` outputs, `stride` after those of the one before it:

        input 0    |--------kernel--------|
        input 1    |-stride-|--------kernel--------|
        causal     |<------- t * stride ---->|       the end waits in the state for its overlap
        if not         |<------- t * stride ---->|   half is cut on either side, the odd one before

    Args:
        inputs: features that come in.
        outputs: features that go out.
        kernel: outputs that one input adds to; at least `stride`.
        stride: outputs per input.
        groups: of features that do not see each other.
        bias: whether a constant is added to each output feature.
        causal: whether outputs depend on no later input; if not, there is no `step`.
        trim: outputs to cut before and after if not causal, where that is not half and half. DAC
            cuts ceil(stride / 2) on both sides: at an odd stride, one output less than t * stride.
        norm: applied before the cut, if not causal: EnCodec 48 kHz normalises over the whole
            clip and what it then cuts.

    Source: as `Conv`; Mimi (Défossez et al. 2024, arXiv:2410.00037) steps it in the same way.

    Raises:
        ValueError: kernel shorter than the stride; trim or norm for a causal layer.
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
            raise ValueError(f"kernel {kernel} leaves gaps at stride {stride}")
        if causal and (trim or norm):
            raise ValueError("a causal transposed convolution cuts nothing: no trim, no norm")
        self.conv = nn.ConvTranspose1d(
            inputs, outputs, kernel, stride=stride, groups=groups, bias=bias
        )
        self.produces, self.causal = stride, causal
        self.norm = norm
        half = self.overlap // 2
        self.left, self.right = (0, self.overlap) if causal else (self.overlap - half, half)
        if trim is not None:
            self.left, self.right = trim

    def start(self, batch: int) -> State:
        """What past inputs add to the next outputs, without the bias."""
        return self.zeros(batch, self.conv.out_channels, self.overlap)

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """Overlap and add."""
        if not self.causal:
            return super().step(x, state)
        if not x.shape[2]:
            return x.new_zeros(len(x), self.conv.out_channels, 0), state
        made = x.shape[2] * self.produces
        y = F.conv_transpose1d(
            x, self.conv.weight, stride=self.produces, groups=self.conv.groups
        ) + F.pad(state, (0, made))
        bias = 0.0 if self.conv.bias is None else self.conv.bias[:, None]
        return y[:, :, :made] + bias, y[:, :, made:]

    def forward(self, x: Features) -> Output:
        """The whole signal."""
        if self.causal:
            return super().forward(x)
        y = self.conv(x) if self.norm is None else self.norm(self.conv(x))
        return y[:, :, self.left : y.shape[2] - self.right]

    def reach(self, first: int, last: int) -> Span:
        """The inputs whose kernels cover the outputs."""
        lo: int | float = first + self.left
        hi: int | float = last + self.left
        if self.norm is not None:
            lo, hi = self.norm.reach(first + self.left, last + self.left)
        if isinstance(lo, int):
            lo = -((self.overlap + self.produces - 1 - lo) // self.produces)
        return lo, hi // self.produces if isinstance(hi, int) else hi
