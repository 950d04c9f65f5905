"""Group normalisation over a whole clip, as EnCodec 48 kHz and WavTokenizer have it."""

from __future__ import annotations

from torch import nn

from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.base import WholeClip


class GroupNorm(WholeClip):
    """Each group of features to mean 0 and variance 1 over the clip, then scaled and shifted.

    A clip is normalised by what is heard in all of it: a clip cut in two gives other values. Layer
    normalisation of every step by itself is `base.Norm`, also where a checkpoint calls it
    `layer_norm` or (for one fixed condition) `AdaLayerNorm`.

    Args:
        features: width of input and output.
        groups: of features normalised together; 1 is EnCodec's `time_group_norm`.
        eps: added to the variance.

    Source: Wu & He 2018, arXiv:1803.08494.
    """

    def __init__(self, features: int, *, groups: int = 1, eps: float = 1e-5) -> None:
        super().__init__(features)
        self.norm = nn.GroupNorm(groups, features, eps=eps)

    def forward(self, x: Features) -> Output:
        """Normalise the clip."""
        return self.norm(x)
