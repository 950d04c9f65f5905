"""Mixture of Gaussians over the sum of the entries of a frame's masked codebooks, and its codes.

    output of the transformer --linear--> weights, means and one deviation of each Gaussian
    the sum of entries of codebooks `known` + 1 to k, less its mean, over its deviations: what
    the mixture is of

Mean and deviations of a sum are those of equally likely codes. Features in which all entries of the
masked codebooks are equal have no deviation and are left out.

A density at an entry is no probability of its code: outer entries have larger cells, and densities
in many features are far too sure. So `log_chances` reads probabilities of codes from the mixture by
a temperature for each codebook and a bias for each code, learnt beside it: without a gradient to
the mixture, which is trained as if they were not there. That part is not ResGen's.

Source: ResGen (arXiv:2412.10208); the mixture is CLaM-TTS's (arXiv:2404.02781), with a deviation
for each Gaussian and no projection of low rank.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from audiotok._platform.errors import InputError
from audiotok.nn.cumulative import greedy
from audiotok.nn.quantizers.base import Quantizer

FASTER = 10.0  # how many times as fast as other weights the reading of chances is learnt
LEAST = math.log(0.05)  # logarithm of the least deviation; a sum of one entry alone is a point
Known = Int[Tensor, " n"]  # number of known codebooks of each frame, fewer than all


class Mixture(NamedTuple):
    """Mixture of Gaussians `m` for each of n frames.

    Attributes:
        weights: logarithms of their probabilities `[n m]`.
        means: `[n m d]`, of normalized sums.
        deviations: logarithms of their deviations `[n m]`, equal in all features.
        features: whether a feature is one of the mixture's, bool `[n d]`.
    """

    weights: Tensor
    means: Tensor
    deviations: Tensor
    features: Tensor

    def log_density(self, sums: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Return the logarithms of the density at normalized sums, in nats."""
        apart = (sums[:, None] - self.means) * self.features[:, None]
        return (self.weights + self._gaussians(apart.square().sum(-1))).logsumexp(-1)

    def log_densities(self, points: Float[Tensor, "v d"]) -> Float[Tensor, "n v"]:
        """Return the logarithms of the density of each frame's mixture at all the points."""
        total = self.means.new_full((len(self.means), len(points)), -torch.inf)
        for weight, mean, deviation in zip(*(part.unbind(1) for part in self[:3]), strict=True):
            one = self._replace(deviations=deviation[:, None])
            apart = (mean * self.features).square().sum(-1, keepdim=True)
            apart = apart - 2 * (mean * self.features) @ points.T
            apart = apart + self.features.to(points) @ points.square().T
            total = total.logaddexp(weight[:, None] + one._gaussians(apart))
        return total

    def _gaussians(self, squares: Tensor) -> Tensor:
        """Return the logarithms of Gaussian densities at squared distances `[n ...]`."""
        count = self.features.sum(-1, keepdim=True)
        constant = count * (self.deviations + 0.5 * math.log(2 * math.pi))
        return -0.5 * squares * (-2 * self.deviations).exp() - constant


class SumHead(nn.Module):
    """Output layer that predicts sums of entries, with the entries.

    Args:
        width: width of its input.
        sizes: number of entries of each codebook.
        latent: width d of the entries.
        gaussians: number of Gaussians.
    """

    entries: Tensor
    centre: Tensor
    spread: Tensor

    def __init__(self, width: int, sizes: Sequence[int], latent: int, gaussians: int) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        self.latent = latent
        self.gaussians = gaussians
        self.out = nn.Linear(width, gaussians * (latent + 2))
        self.register_buffer("entries", torch.zeros(sum(sizes), latent))
        self.bias = nn.Parameter(torch.zeros(sum(sizes)))
        self.temperature = nn.Parameter(torch.zeros(len(sizes)))  # logarithms
        # Of the sum of codebooks from each one on.
        self.register_buffer("centre", torch.zeros(len(sizes), latent))
        self.register_buffer("spread", torch.zeros(len(sizes), latent))

    @property
    def tables(self) -> list[Tensor]:
        """Entries `[size d]` of each codebook."""
        return list(self.entries.split(self.sizes))

    @torch.no_grad()
    def set_entries(self, quantizer: Quantizer) -> None:
        """Take over the entries of the first codebooks of a residual quantizer.

        Raises:
            InputError: its codebooks have other sizes.
            NoTableError: its codes do not decode to sums.
        """
        k = len(self.sizes)
        if quantizer.sizes[:k] != self.sizes:
            raise InputError(f"codebooks of {quantizer.sizes}, and a layout of {self.sizes}")
        tables = [quantizer.table(q).float() for q in range(k)]
        self.entries.copy_(torch.cat(tables))
        means = torch.stack([table.mean(0) for table in tables])
        variances = torch.stack([table.var(0, correction=0) for table in tables])
        self.centre.copy_(means.flip(0).cumsum(0).flip(0))
        self.spread.copy_(variances.flip(0).cumsum(0).flip(0).sqrt())

    def forward(self, hidden: Float[Tensor, "n w"], known: Known) -> Mixture:
        """Return the mixtures of frames.

        Args:
            hidden: outputs of the transformer.
            known: number of known codebooks of each frame.
        """
        m = self.gaussians
        weights, deviations, means = self.out(hidden).float().split([m, m, m * self.latent], -1)
        return Mixture(
            weights.log_softmax(-1),
            means.unflatten(-1, (m, -1)),
            LEAST + F.softplus(deviations - LEAST),
            self.spread[known] > 0,
        )

    def sums(self, codes: Int[Tensor, "n k"], known: Known) -> Float[Tensor, "n d"]:
        """Return the normalized sums of the entries of the codebooks after the known ones."""
        parts = zip(self.tables, codes.T, range(len(self.sizes)), strict=True)
        summed = torch.stack([table[c] * (q >= known)[:, None] for table, c, q in parts]).sum(0)
        return self._normalized(summed, known)

    def codes(
        self, sums: Float[Tensor, "n d"], codes: Int[Tensor, "n k"], known: Known
    ) -> Int[Tensor, "n k"]:
        """Return the known codes, followed by those that normalized sums are quantized to."""
        codes = codes.clone()
        summed = sums * self.spread[known] + self.centre[known]
        for q in known.unique().tolist():
            codes[known == q, q:] = greedy(self.tables[q:], summed[known == q])
        return codes

    def log_chances(self, mixture: Mixture, known: int) -> Float[Tensor, "n v"]:
        """Return the logarithms of the probabilities of the codes of the first masked codebook.

        They are read from the densities at their entries, those of further codebooks at their mean.

        Args:
            mixture: mixtures of frames with equally many known codebooks.
            known: number of known codebooks.
        """
        k, table = len(self.sizes), self.tables[known]
        after = self.centre[known + 1] if known + 1 < k else torch.zeros_like(table[0])
        every = torch.full((len(table),), known, device=table.device)
        densities = mixture.log_densities(self._normalized(table + after, every)).detach()
        bias = FASTER * self.bias.split(self.sizes)[known]
        return (densities * (FASTER * self.temperature[known]).exp() + bias).log_softmax(-1)

    def _normalized(self, summed: Tensor, known: Tensor) -> Tensor:
        """Return sums less their mean, over their deviations; 0 where there is no deviation."""
        spread = self.spread[known]
        apart = (summed - self.centre[known]) / torch.where(spread > 0, spread, 1.0)
        return apart * (spread > 0)
