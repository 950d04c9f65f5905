"""Transformer block over a whole clip, as in Whisper's encoder and in tokenizers made of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiotok._platform.errors import InputError
from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.base import WholeClip
from audiotok.nn.linear import Linear

Past = tuple[Tensor, Tensor]
"""Keys and values `[b heads f width]` of earlier frames."""


class TransformerBlock(WholeClip):
    """Attention to all frames of the clip, then a perceptron, each with a norm before it.

    Keys have no bias, as it would shift all scores of a query alike.

    Args:
        features: width of input and output.
        heads: attention heads.
        rotary: whether queries and keys are rotated by their positions.
        memory: taps of a depthwise convolution of the values that is added to the attention's
            output, together with the values (FSMN); none if 0.

    Source: Radford et al. 2022, arXiv:2212.04356 (Whisper); Su et al. 2021, arXiv:2104.09864
    (rotary positions); Zhang et al. 2018, arXiv:1803.05030 (memory), as in SAN-M, Gao et al. 2020,
    arXiv:2006.01713.
    """

    def __init__(self, features: int, *, heads: int, rotary: bool = False, memory: int = 0) -> None:
        if features % (2 * heads):
            raise InputError(f"features {features} must be a multiple of 2 x heads ({2 * heads})")
        super().__init__(features)
        self.heads = heads
        self.rotary = rotary
        self.norm1 = nn.LayerNorm(features)
        self.query = Linear(features, features)
        self.key = Linear(features, features, bias=False)
        self.value = Linear(features, features)
        self.out = Linear(features, features)
        self.memory = (
            nn.Conv1d(features, features, memory, padding="same", groups=features, bias=False)
            if memory
            else None
        )
        self.norm2 = nn.LayerNorm(features)
        self.up = Linear(features, 4 * features)
        self.down = Linear(4 * features, features)

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`."""
        return self.follow(x.transpose(1, 2), None)[0].transpose(1, 2)

    def follow(
        self, frames: Tensor, past: Past | None, *, seen: int | None = None
    ) -> tuple[Tensor, Past]:
        """Return the outputs of frames `[b f d]` that attend to each other and to earlier ones.

        Args:
            frames: frames in a row.
            past: keys and values of the frames before them; None if they are the first.
            seen: number of these frames, from the first, that are attended to; all if None.

        Returns:
            The outputs `[b f d]`, and keys and values of all frames.

        Raises:
            ValueError: there are earlier frames, whose memory would need these.
        """
        if past and self.memory is not None:
            raise InputError("a block with a memory takes the whole clip at once")
        x = self.norm1(frames)
        values = self.value(x)
        q, k, v = self._heads(self.query(x)), self._heads(self.key(x)), self._heads(values)
        if self.rotary:
            first = past[0].shape[2] if past else 0
            q, k = rotated(q, first), rotated(k, first)
        k, v = k[:, :, :seen], v[:, :, :seen]
        if past:
            k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
        y = self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        if self.memory is not None:
            y = y + self.memory(values.transpose(1, 2)).transpose(1, 2) + values
        frames = frames + y
        return frames + self.down(F.gelu(self.up(self.norm2(frames)))), (k, v)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


def rotated(x: Tensor, first: int) -> Tensor:
    """Rotate queries or keys `[b heads f width]` of frames from `first` on, feature i with
    i + width / 2.

    Angles are of single precision, as in published tokenizers whose codes they decide.
    """
    width = x.shape[3]
    rates = 1.0 / 10000.0 ** (torch.arange(0, width, 2, device=x.device).float() / width)
    positions = torch.arange(first, first + x.shape[2], device=x.device)
    angles = torch.outer(positions.float(), rates)
    cos, sin = angles.cos(), angles.sin()
    a, b = x.chunk(2, 3)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], 3)
