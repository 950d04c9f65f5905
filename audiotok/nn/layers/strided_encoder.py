"""Encoder of strided convolutions with residual units before each, as in DAC and its kin."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from audiotok.nn.layers.base import Layer
from audiotok.nn.layers.chain import Chain
from audiotok.nn.layers.conv import Conv
from audiotok.nn.layers.residual_unit import ResidualUnit


class StridedEncoder(Chain):
    """Convolution, n x (3 residual units, activation, strided convolution), activation,
    convolution: waves `[b 1 t]` to features `[b outputs f]`.

    Args:
        width: width at the audio rate; doubles at every stride.
        outputs: width of the output.
        strides: of the convolutions, each of which has a kernel of two strides.
        activation: function that creates an activation of a given width.

    Source: DAC (Kumar et al. 2023, arXiv:2306.06546); with BigVGAN's activations (Lee et al. 2023,
    arXiv:2206.04658) in BigCodec (Xin et al. 2024, arXiv:2409.05377).
    """

    def __init__(
        self,
        width: int,
        outputs: int,
        *,
        strides: Sequence[int],
        activation: Callable[[int], Layer],
    ) -> None:
        layers: list[Layer] = [Conv(1, width, 7, causal=False)]
        for stride in strides:
            layers += [
                ResidualUnit(
                    width, kernel=7, dilation=dilation, activation=activation, causal=False
                )
                for dilation in (1, 3, 9)
            ]
            down = Conv(width, 2 * width, 2 * stride, stride=stride, causal=False)
            layers += [activation(width), down]
            width *= 2
        super().__init__([*layers, activation(width), Conv(width, outputs, 3, causal=False)])
