"""Dilated residual unit of convolutional codecs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.base import Activation, Layer, Residual
from audiotok.nn.layers.chain import Chain
from audiotok.nn.layers.conv import Conv, Pad


class Elu(Activation):
    """Exponential linear unit of any features `[b d t]`.

    Source: Clevert et al. 2015, arXiv:1511.07289.
    """

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`."""
        return F.elu(x)

    def write(self, x: Tensor, out: Tensor) -> None:
        """See `Activation.write`."""
        torch.ops.aten.elu.out(x, out=out)


def elu(features: int) -> Layer:
    """Return an `Elu`, for any number of features."""
    return Elu()


class ResidualUnit(Residual):
    """Residual unit x + conv(act(dilated conv(act(x)))), of which the last conv is 1x1 mostly.

    The unit of SEANet is `ResidualUnit(d, hidden=d // 2)`, with `shortcut=True` in EnCodec and
    SpeechTokenizer and without in Mimi; that of DAC is
    `ResidualUnit(d, kernel=7, dilation=3, activation=Snake, causal=False)`.

    Args:
        features: width of input and output.
        hidden: width between the two convolutions; `features` if None.
        kernel: taps of the dilated convolution.
        dilation: distance between its taps in steps.
        last_kernel: taps of the last convolution.
        activation: function that creates an activation of a given width: `elu` or `Snake`.
        norm: function that creates a normalisation of a given width after each convolution, such
            as `GroupNorm`; none if None.
        bias: whether the convolutions add a constant to each feature.
        shortcut: whether the shortcut is a 1x1 convolution instead of x itself.
        depthwise: whether the dilated convolution has each feature by itself; `hidden` is then
            `features`.
        causal: as in `Conv`.
        pad: as in `Conv`.

    Source: Tagliasacchi et al. 2020, arXiv:2009.02095 (SEANet); Kumar et al. 2023,
    arXiv:2306.06546 (DAC).
    """

    def __init__(
        self,
        features: int,
        *,
        hidden: int | None = None,
        kernel: int = 3,
        dilation: int = 1,
        last_kernel: int = 1,
        activation: Callable[[int], Layer] = elu,
        norm: Callable[[int], Layer] | None = None,
        bias: bool = True,
        shortcut: bool = False,
        depthwise: bool = False,
        causal: bool = True,
        pad: Pad = "zeros",
    ) -> None:
        hidden = hidden or features

        def conv(
            inputs: int, outputs: int, kernel: int, dilation: int = 1, groups: int = 1
        ) -> list[Layer]:
            layer = Conv(
                inputs,
                outputs,
                kernel,
                dilation=dilation,
                groups=groups,
                bias=bias,
                causal=causal,
                pad=pad,
            )
            return [layer, norm(outputs)] if norm else [layer]

        super().__init__(
            Chain(
                [
                    activation(features),
                    *conv(features, hidden, kernel, dilation, features if depthwise else 1),
                    activation(hidden),
                    *conv(hidden, features, last_kernel),
                ]
            ),
            Chain(conv(features, features, 1)) if shortcut else None,
        )
