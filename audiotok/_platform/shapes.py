"""Tensor shapes: the meaning of each letter in annotations, and the types that layers share.

b  batch          recordings handled together
c  channels       of audio
t  samples        steps of audio time; never frames
d  features       the width of a latent
e u               width and steps of a layer's output for `[b d t]`
f  frames         steps of token time
k  codebooks      codes per frame

``Wave``, ``Latent`` and ``Codes`` are checked at run time in the tests (jaxtyping with
beartype) and cost users nothing.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Float, Int, Num
from torch import Tensor

Wave = Float[Tensor, "b c t"]
Features = Float[Tensor, "b d t"]
Output = Float[Tensor, "b e u"]
Latent = Float[Tensor, "b d f"]
Codes = Int[Tensor, "b k f"]
Frames = Num[Tensor, "b k f"]  # codes, or latents of a codec of those
Scalar = Float[Tensor, ""]

State = Any
"""Streaming state of a layer: a tensor, None, or a tuple of states; every tensor's first axis is
the batch."""
