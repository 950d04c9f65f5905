"""Group normalisation over a whole clip, as in EnCodec 48 kHz and WavTokenizer."""

from __future__ import annotations

from torch import nn

from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.base import WholeClip


class GroupNorm(WholeClip):
    """Normalisation of groups of features to mean 0 and variance 1 over the clip, then affine.

    The statistics are those of the whole clip, so a clip cut in two gives other values. Layer
    normalisation of every step by itself is `base.Norm`, also where a checkpoint calls it
    `layer_norm` or (for one fixed condition) `AdaLayerNorm`.

    Args:
        features: width of input and output.
        groups: number of groups; 1 is EnCodec's `time_group_norm`.
        eps: constant added to the variance.

    Source: Wu & He 2018, arXiv:1803.08494.
    """

    def __init__(self, features: int, *, groups: int = 1, eps: float = 1e-5) -> None:
        super().__init__(features)
        self.norm = nn.GroupNorm(groups, features, eps=eps)

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`."""
        return self.norm(x)
