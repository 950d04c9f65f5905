"""HiFi-GAN's block: chains of residual units with kernels of several sizes, and their mean.

HiFi-Codec normalises the sum over the clip after each chain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from operator import add
from typing import cast

from torch import Tensor, nn

from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.base import Layer, Span, State, WholeClip
from audiotok.nn.layers.chain import Chain
from audiotok.nn.layers.conv import Pad
from audiotok.nn.layers.group_norm import GroupNorm
from audiotok.nn.layers.residual_unit import ResidualUnit
from audiotok.nn.onednn import computes


class HifiganBlock(Layer):
    """Mean of chains of residual units, one for each kernel `[b d t]`.

    Where the chains lag, by more the longer their kernels, outputs of one wait for the others.

    Args:
        features: width of input and output.
        activation: function that creates an activation of a given width.
        kernels: taps of the convolutions of each chain.
        dilations: dilation of the first convolution of each unit of a chain.
        causal: as in `Conv`.
        pad: as in `Conv`.

    Source: Kong et al. 2020, arXiv:2010.05646, section 2.3 (multi-receptive field fusion).
    """

    def __init__(
        self,
        features: int,
        *,
        activation: Callable[[int], Layer],
        kernels: Sequence[int] = (3, 7, 11),
        dilations: Sequence[int] = (1, 3, 5),
        causal: bool = True,
        pad: Pad = "zeros",
    ) -> None:
        super().__init__()
        self.causal = causal
        self.chains = nn.ModuleList(
            Chain(
                ResidualUnit(
                    features,
                    kernel=kernel,
                    last_kernel=kernel,
                    dilation=dilation,
                    activation=activation,
                    causal=causal,
                    pad=pad,
                )
                for dilation in dilations
            )
            for kernel in kernels
        )
        self.divides = all(chain.divides for chain in self)

    def __iter__(self) -> Iterator[Chain]:
        return iter(cast("list[Chain]", self.chains))

    def start(self, batch: int) -> State:
        """See `Layer.start`; states of the chains, and outputs that wait for other chains."""
        return tuple((chain.start(batch), None) for chain in self)

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Layer.step`; every chain takes a step."""
        outputs, after = [], []
        for chain, (before, waiting) in zip(self, state, strict=True):
            y, new = chain.step(x, before)
            outputs.append(y if waiting is None else self.joined(waiting, y))
            after.append(new)
        if self.causal:
            return self._mean(outputs), tuple((new, None) for new in after)
        ready = min(y.shape[2] for y in outputs)
        kept = (y[:, :, ready:] for y in outputs)
        return self._mean([y[:, :, :ready] for y in outputs]), tuple(zip(after, kept, strict=True))

    def finish(self, x: Features, state: State) -> Output:
        """See `Layer.finish`; every chain finishes."""
        outputs = []
        for chain, (before, waiting) in zip(self, state, strict=True):
            y = chain.finish(x, before)
            outputs.append(y if waiting is None else self.joined(waiting, y))
        return self._mean(outputs)

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`."""
        return self._mean([chain(x) for chain in self])

    @staticmethod
    def _mean(outputs: Sequence[Tensor]) -> Tensor:
        total = reduce(add, outputs)
        if len(outputs) == 1 or not computes(total, total):
            return total / len(outputs)
        return total.div_(len(outputs))

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; the widest of the spans."""
        spans = [chain.input_span(first, last) for chain in self]
        return min(span[0] for span in spans), max(span[1] for span in spans)


class NormedHifiganBlock(WholeClip):
    """Chains of residual units `[b d t]`, whose sum is normalised each time that one is added.

        y = norm_1(chain_1(x));  y = norm_2(y + chain_2(x));  y = norm_3(y + chain_3(x));  y / 3

    Args:
        features: width of input and output.
        activation: function that creates an activation of a given width.
        kernels, dilations: as in `HifiganBlock`.
        groups: groups of each `GroupNorm`.
        eps: epsilon of each.

    Source: HiFi-Codec (Yang et al. 2023, arXiv:2305.02765); its program, and that of InspireMusic.
    """

    def __init__(
        self,
        features: int,
        *,
        activation: Callable[[int], Layer],
        kernels: Sequence[int] = (3, 7, 11),
        dilations: Sequence[int] = (1, 3, 5),
        groups: int = 1,
        eps: float = 1e-6,
    ) -> None:
        super().__init__(features)
        self.block = HifiganBlock(
            features, activation=activation, kernels=kernels, dilations=dilations, causal=False
        )
        self.norms = nn.ModuleList(GroupNorm(features, groups=groups, eps=eps) for _ in kernels)

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`."""
        total = None
        for chain, norm in zip(self.block, cast("list[GroupNorm]", self.norms), strict=True):
            y = chain(x)
            total = norm(y if total is None else total + y)
        assert total is not None
        return total / len(self.norms)
