"""Uniform scalar quantization: each feature is rounded to one of a few fixed values."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from audiotok._platform.errors import InputError
from audiotok._platform.shapes import Codes, Latent
from audiotok.nn.quantizers.base import Count, LazySequence, Quantized, Quantizer


class Uniform(Quantizer):
    """Quantizer to values equally far apart, a codebook for each feature; nothing is learnt.

    Features of codebooks that are left out decode to the lowest value.

    Args:
        features: width d of the latent, and number of codebooks.
        levels: number of values.
        low: lowest value.
        high: highest value; features outside are clipped.

    Raises:
        ValueError: fewer than two values, or none between `low` and `high`.

    Source: dMel, Bai et al. 2024, arXiv:2407.15835, section 2.1; its code rounds the step to four
    decimal places.
    """

    values: Tensor
    one_pass = True

    def __init__(
        self, features: int, *, levels: Count = 16, low: float = -7.0, high: float = 2.0
    ) -> None:
        if levels < 2 or not low < high:
            raise InputError(f"{levels} levels from {low} to {high}: give two or more, upwards")
        super().__init__()
        self.sizes = (levels,) * features
        step = np.round((high - low) / (levels - 1), 4)
        values = np.array([low + i * step for i in range(levels)])
        self.register_buffer("values", torch.from_numpy(values).float(), persistent=False)
        self.low = low
        self.high = high
        self.absent = low

    def forward(self, latent: Latent, keep: Tensor | None = None) -> Quantized:
        """See `Quantizer.forward`; the gradient passes straight through.

        `commitment` is the mean square of the rounding error, only for monitoring.
        """
        codes = self.encode(latent)
        values = self.decode(codes).to(latent)
        commitment = (latent - values).float().square().mean()
        decoded = latent + (values - latent).detach()
        absent = self.decode(codes[:, :0]).to(latent)
        numbers = torch.arange(self.codebooks, device=latent.device)[:, None]

        def alone(k: int) -> Tensor:
            """Return what the k-th codebook adds to absent features; with them if it is first."""
            mine = torch.where(numbers == k, decoded, absent)
            return mine if k == 0 else mine - absent

        stages = LazySequence(self.codebooks, alone)
        if keep is not None:
            decoded = torch.where(numbers < keep[:, None, None], decoded, absent)
        return Quantized(decoded, codes, {"commitment": commitment}, alone(0), stages)

    def encode(self, latent: Latent, codebooks: int | None = None) -> Codes:
        """See `Quantizer.encode`; of two values equally near it takes the lower."""
        x = latent[:, : self.check(codebooks)].float().clamp(self.low, self.high)
        return (x[..., None] - self.values).abs().argmin(-1)

    def decode(self, codes: Codes) -> Latent:
        """See `Quantizer.decode`."""
        values = self.values[codes]
        missing = values.new_full((len(codes), self.codebooks - codes.shape[1], codes.shape[2]), 0)
        return torch.cat([values, missing + self.absent], 1)
