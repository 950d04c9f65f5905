"""Bins of equal probability for each feature of latents that are already learnt."""

from __future__ import annotations

import math

import torch
import torch.distributed as dist
from torch import Tensor

from audiotok._platform.errors import InputError
from audiotok._platform.shapes import Codes, Latent
from audiotok.nn.quantizers.base import Count, Quantized
from audiotok.nn.quantizers.uniform import Uniform


class GaussianBins(Uniform):
    """Quantizer of each feature by itself, to the means of equally probable parts of a Gaussian.

    Mean and deviation of every feature are those of all latents that it has seen in training mode.
    There is nothing else to learn. Features of codebooks that are left out decode to their mean.

    Args:
        features: width d of the latent, and number of codebooks.
        levels: number of bins of a feature.
        limit: deviations from the mean at which the outermost bins end, and features are clipped.

    Source: TokenBridge, Wang et al. 2025, arXiv:2503.16430, section 3.2, and its published code,
    where a feature goes to the nearest of the bins' means; there the range of the features, and
    here their mean and deviation, tell where the bins are.

    Raises:
        ValueError: fewer than two bins, or so many that the outermost would be beyond the limit.
    """

    mean: Tensor
    deviation: Tensor
    count: Tensor

    def __init__(self, features: int, *, levels: Count = 16, limit: float = 3.0) -> None:
        super().__init__(features, levels=levels, low=-limit, high=limit)
        if 1 / levels <= normal_share(-limit):
            raise InputError(
                f"{levels} levels within {limit:g} deviations: the outermost bins would be empty; "
                f"give at most {math.ceil(1 / normal_share(-limit)) - 1}, or a higher limit"
            )
        self.values.copy_(bin_means(levels, limit))
        self.absent = 0.0
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self, latent: Latent, keep: Tensor | None = None) -> Quantized:
        """See `Quantizer.forward`; in training mode mean and deviation follow first."""
        if self.training:
            self._follow(latent.detach().transpose(0, 1).flatten(1).double())
        return super().forward(latent, keep)

    def encode(self, latent: Latent, codebooks: int | None = None) -> Codes:
        """See `Quantizer.encode`; of two values equally near it takes the lower."""
        spread = self.deviation.clamp(min=torch.finfo(torch.float32).tiny)[:, None]
        return super().encode((latent.float() - self.mean[:, None]) / spread, codebooks)

    def decode(self, codes: Codes) -> Latent:
        """See `Quantizer.decode`."""
        return super().decode(codes) * self.deviation[:, None] + self.mean[:, None]

    def _follow(self, x: Tensor) -> None:
        """Add features `[d n]` to those that mean and deviation are of."""
        sums = torch.cat([x.new_full((1,), x.shape[1]), x.sum(1), x.square().sum(1)])
        if dist.is_initialized():
            dist.all_reduce(sums)
        count, total, squares = sums[0], *sums[1:].chunk(2)
        before, mean = self.count.double(), self.mean.double()
        squares = squares + before * (self.deviation.double().square() + mean.square())
        everything = before + count
        mean = (before * mean + total) / everything
        self.mean.copy_(mean)
        self.deviation.copy_((squares / everything - mean.square()).clamp(min=0).sqrt())
        self.count.copy_(everything)


def normal_share(x: float) -> float:
    """Return the probability that a normal variable is below x."""
    return math.erfc(-x / math.sqrt(2)) / 2


def bin_means(levels: int, limit: float) -> Tensor:
    """Return the means of a normal variable in bins of equal probability, `[levels]`.

    Args:
        levels: number of bins.
        limit: value at which the outermost bins end.
    """
    shares = torch.linspace(0, 1, levels + 1, dtype=torch.float64)
    edges = torch.special.ndtri(shares).clamp(-limit, limit)
    density = (-edges.square() / 2).exp() / math.sqrt(2 * math.pi)
    return ((density[:-1] - density[1:]) / torch.special.ndtr(edges).diff()).float()
