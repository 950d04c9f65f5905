"""Residual vector quantization: each codebook codes the residual of the codebooks before it.

There are two kinds of codebook: `euclidean`, nearest entry, learnt by moving averages (EnCodec,
Défossez et al. 2022, arXiv:2210.13438, section 3.2), and `factorised`, nearest direction in a
narrow learnt projection, learnt by gradient (DAC, Kumar et al. 2023, arXiv:2306.06546, section
3.2).

Two bugs of most open implementations are avoided here and have tests (tests/nn/test_quantizers.py):
dead entries are revived and stay revived, and the commitment loss of every codebook has a gradient
to the encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Annotated, Literal, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from audiotok._platform.config import NONE_OR_MORE
from audiotok._platform.errors import InputError
from audiotok._platform.shapes import Codes, Latent
from audiotok.nn.beam_search import beam_search
from audiotok.nn.clusters import distances, kmeans, least
from audiotok.nn.derived import Derived
from audiotok.nn.quantizers.base import Codebook, Count, LazySequence, Quantized, Quantizer


class Euclidean(Codebook):
    """Codebook learnt by exponential moving averages; it has buffers but no parameters.

    Args:
        features: width d of the entries.
        size: number of entries.
        decay: decay of the moving averages.
        revive: usage below which an entry is dead and becomes a frame of the current batch. Its
            averages are replaced as well, as the next update would otherwise undo that.
        seed: random seed of the initial k-means.
        first: number of features that are coded, from the first; the others are zero in every
            entry and are ignored by the search. All if None.

    Attributes:
        entries: `[size features]`.
        usage: `[size]`, share of recent frames of each entry times `size`: 1 is a fair share.
    """

    entries: Tensor
    usage: Tensor

    def __init__(
        self,
        features: int,
        size: int,
        *,
        decay: float = 0.99,
        revive: float = 0.05,
        seed: int = 0,
        first: int | None = None,
    ) -> None:
        super().__init__()
        self.decay = decay
        self.revive = revive
        self.seed = seed
        self.first = features if first is None else first
        random = torch.Generator().manual_seed(seed)
        self.register_buffer("entries", self._own(torch.randn(size, features, generator=random)))
        # No usage yet: the first training batch initialises the entries by k-means.
        self.register_buffer("usage", torch.zeros(size))
        self._searched: Derived[tuple[Tensor, Tensor]] = Derived()

    def search(self, x: Tensor) -> Tensor:
        """See `Codebook.search`."""
        return least(self.distances(x))

    def distances(self, x: Tensor) -> Tensor:
        """See `Codebook.distances`."""
        return distances(x[:, : self.first], *self._searched.of((self.entries,), self._searchable))

    @torch.no_grad()
    def _searchable(self) -> tuple[Tensor, Tensor]:
        """Return the coded features of the entries `[size first]`, and their squared lengths."""
        entries = self.entries[:, : self.first].contiguous()
        return entries, entries.square().sum(1)

    def look_up(self, index: Tensor) -> Tensor:
        """See `Codebook.look_up`."""
        return F.embedding(index, self.entries)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `Codebook.forward`; in training mode this also updates the entries."""
        own = self._own(x.detach())
        if self.training and not self.usage.any():
            self._initialise(own)
        index = self.search(own)
        entry = self.look_up(index)
        if self.training:
            self._update(own, index)
        return entry, index, (x - entry)[:, : self.first].square().mean(1)

    def _own(self, x: Tensor) -> Tensor:
        """Return `x` with zeros for the features that this codebook does not code."""
        return (
            x
            if self.first == x.shape[1]
            else F.pad(x[:, : self.first], (0, x.shape[1] - self.first))
        )

    def _initialise(self, x: Tensor) -> None:
        self.entries.copy_(_from_first(kmeans(x, len(self.entries), seed=self.seed)))
        self.usage.fill_(1.0)

    def _update(self, x: Tensor, index: Tensor) -> None:
        size = len(self.entries)
        count = torch.zeros_like(self.usage).index_add_(0, index, torch.ones_like(x[:, 0]))
        total = torch.zeros_like(self.entries).index_add_(0, index, x)
        if dist.is_initialized():
            dist.all_reduce(count)
            dist.all_reduce(total)
        share = size / count.sum()
        usage = self.decay * self.usage + (1 - self.decay) * share * count
        summed = self.decay * self.usage[:, None] * self.entries
        summed += (1 - self.decay) * share * total
        # An entry whose usage underflows stays where it is until it is revived.
        alive = usage[:, None] > 1e-6
        self.entries.copy_(
            torch.where(alive, summed / usage[:, None].clamp(min=1e-6), self.entries)
        )
        self.usage.copy_(usage)
        dead = usage < self.revive
        if dead.any():
            # Drawn on the first rank, then broadcast so that all ranks have the same entries.
            pick = torch.randint(len(x), (size,), device=x.device)
            self.entries.copy_(torch.where(dead[:, None], _from_first(x[pick]), self.entries))
            self.usage.masked_fill_(dead, 1.0)


def _from_first(x: Tensor) -> Tensor:
    """Broadcast `x` of the first process to every process."""
    if dist.is_initialized():
        x = x.contiguous()
        dist.broadcast(x, 0)
    return x


class Factorised(Codebook):
    """Codebook searched by cosine in a projection to `width` features, learnt by gradient."""

    def __init__(self, features: int, size: int, *, width: int = 8) -> None:
        super().__init__()
        self.down = nn.Linear(features, width)
        self.up = nn.Linear(width, features)
        self.entries = nn.Parameter(torch.randn(size, width))

    def search(self, x: Tensor) -> Tensor:
        """See `Codebook.search`."""
        return self._search(self.down(x))

    def distances(self, x: Tensor) -> Tensor:
        """See `Codebook.distances`."""
        return -self._likeness(self.down(x))

    def _search(self, narrow: Tensor) -> Tensor:
        return self._likeness(narrow).argmax(1)

    def _likeness(self, narrow: Tensor) -> Tensor:
        # The nearest of unit vectors is the one with the largest dot product.
        return F.normalize(narrow) @ F.normalize(self.entries).T

    def look_up(self, index: Tensor) -> Tensor:
        """Return the latents of indices of any shape, features last."""
        return self.up(F.embedding(index, self.entries))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the latents `[n d]`, indices `[n]` and losses `[n]` of frames `[n d]`.

        The loss is the commitment loss plus four times the codebook loss (DAC's weights 0.25 and
        1).
        """
        narrow = self.down(x)
        index = self._search(narrow.detach())
        entry = F.embedding(index, self.entries)
        loss = (narrow - entry.detach()).square().mean(1)
        loss = loss + 4 * (narrow.detach() - entry).square().mean(1)
        return self.up(narrow + (entry - narrow).detach()), index, loss


class Rvq(Quantizer):
    """Residual vector quantizer of `codebooks` codebooks with `size` entries each.

    Args:
        features: width d of the latent.
        codebooks: number of codebooks.
        size: number of entries in each codebook; or a list, of the number in each.
        kind: `euclidean` or `factorised`.
        decay: decay of the moving averages of a euclidean codebook (`Euclidean`).
        revive: usage below which a euclidean entry is replaced (`Euclidean`).
        width: width of the projection of a factorised codebook (`Factorised`).
        seed: random seed of the k-means that initialises euclidean codebooks from the first batch.
        early: number of (euclidean) codebooks, from the first, that code only the first
            `early_features` features. Other features are left to later codebooks, and the early
            features get no gradient from audio that was decoded from more than the early codebooks.
            So the first codebooks keep their purpose, whatever later ones are trained to add.
        early_features: number of features that the early codebooks code.

    Raises:
        ValueError: `early`, `early_features` or a list of sizes do not fit the other arguments.
    """

    _paths = 1  # see `set_search`
    _fixed = 0

    def __init__(
        self,
        features: int,
        *,
        codebooks: Count = 8,
        size: Count | Sequence[Count] = 1024,
        kind: Literal["euclidean", "factorised"] = "euclidean",
        decay: float = 0.99,
        revive: float = 0.05,
        width: Count = 8,
        seed: int = 0,
        early: Annotated[int, NONE_OR_MORE] = 0,
        early_features: Annotated[int, NONE_OR_MORE] = 0,
    ) -> None:
        super().__init__()
        if early and (
            kind != "euclidean" or early > codebooks or not 0 < early_features <= features
        ):
            raise InputError(
                f"early={early} early_features={early_features}: at most {codebooks} codebooks "
                f"and {features} features, of kind euclidean"
            )
        self.sizes = (size,) * codebooks if isinstance(size, int) else tuple(size)
        if len(self.sizes) != codebooks:
            raise InputError(f"sizes {self.sizes}: as many as codebooks, {codebooks}")
        self.early = early
        self.early_features = early_features
        self.stages = nn.ModuleList(
            Euclidean(
                features,
                entries,
                decay=decay,
                revive=revive,
                seed=seed + i,
                first=early_features if i < early else features,
            )
            if kind == "euclidean"
            else Factorised(features, entries, width=width)
            for i, entries in enumerate(self.sizes)
        )

    def _codebooks(self) -> list[Codebook]:
        return cast("list[Codebook]", list(self.stages))

    def forward(self, latent: Latent, keep: Tensor | None = None) -> Quantized:
        """See `Quantizer.forward`; the one loss is `commitment`, a mean over codebooks in use."""
        b, d, f = latent.shape
        with full_precision(latent):
            residual = latent.float().transpose(1, 2).reshape(b * f, d)
            total = torch.zeros_like(residual)
            entries: list[Tensor] = []
            codes, commitment, count = [], residual.new_zeros(()), residual.new_zeros(())
            for i, codebook in enumerate(self._codebooks()):
                entry, index, loss = codebook(residual)
                # Detached: else all commitment gradients but the first cancel in the encoder.
                residual = residual - entry.detach()
                used = residual.new_ones(b) if keep is None else (keep > i).to(residual)
                total = total + entry * used.repeat_interleave(f)[:, None]
                commitment = commitment + (loss.view(b, f).mean(1) * used).sum()
                count = count + used.sum()
                codes.append(index.view(b, f))
                entries.append(entry)
        return Quantized(
            latent=_straight_through(total, self._without_early_gradient(latent, keep)),
            codes=torch.stack(codes, 1),
            losses={"commitment": commitment / count.clamp(min=1)},
            first=_straight_through(entries[0], self._with_own_gradient(0, latent)),
            stages=LazySequence(
                len(entries),
                lambda i: _straight_through(entries[i], self._with_own_gradient(i, latent)),
            ),
        )

    def _with_own_gradient(self, codebook: int, latent: Latent) -> Latent:
        """Return the latent with a gradient only for the features that a codebook codes."""
        if codebook >= self.early:
            return latent
        own, rest = latent.split([self.early_features, latent.shape[1] - self.early_features], 1)
        return torch.cat([own, rest.detach()], 1)

    def _without_early_gradient(self, latent: Latent, keep: Tensor | None) -> Latent:
        """Detach the early features where more than the early codebooks are in use."""
        if not self.early:
            return latent
        own, rest = latent.split([self.early_features, latent.shape[1] - self.early_features], 1)
        late = latent.new_ones(len(latent)) if keep is None else (keep > self.early).to(latent)
        late = late[:, None, None]
        return torch.cat([late * own.detach() + (1 - late) * own, rest], 1)

    def set_search(self, paths: int, fixed: int = 0) -> bool:
        """See `Quantizer.set_search`."""
        books = self._codebooks()
        able = all(type(book).distances is not Codebook.distances for book in books)
        able = able and len(books) > max(1, fixed)
        self._paths = paths if able else 1
        self._fixed = fixed
        return able

    @torch.no_grad()
    def encode(self, latent: Latent, codebooks: int | None = None) -> Codes:
        """See `Quantizer.encode`."""
        b, d, f = latent.shape
        codes, books = [], self._codebooks()[: self.check(codebooks)]
        with full_precision(latent):
            residual = latent.float().transpose(1, 2).reshape(b * f, d)
            if self._paths > 1:
                rows = beam_search(residual, books, paths=self._paths, fixed=self._fixed)
                return rows.view(b, f, len(books)).transpose(1, 2).contiguous()
            for codebook in books:
                index = codebook.search(residual)
                residual = residual - codebook.look_up(index)
                codes.append(index.view(b, f))
        return torch.stack(codes, 1)

    def decode(self, codes: Codes) -> Latent:
        """See `Quantizer.decode`; the latent is the sum of the entries."""
        self.check(codes.shape[1])
        with full_precision(codes):
            parts = [
                codebook.look_up(rows)
                for codebook, rows in zip(self._codebooks(), codes.unbind(1), strict=False)
            ]
            return torch.stack(parts).sum(0).transpose(1, 2)

    def table(self, codebook: int) -> Tensor:
        """See `Quantizer.table`; the entries themselves."""
        like = next(chain(self.parameters(), self.buffers()))
        return self._codebooks()[codebook].look_up(
            torch.arange(self.sizes[codebook], device=like.device)
        )


def full_precision(x: Tensor) -> torch.autocast:
    """Disable autocast: distances and averages need more than the 8 bits of bf16."""
    return torch.autocast(x.device.type, enabled=False)


def _straight_through(entries: Tensor, latent: Tensor) -> Tensor:
    """Return `entries [b*f d]` as `[b d f]` with the gradient of `latent [b d f]`.

    The entries of a factorised codebook already have a gradient, through its projections.
    """
    entries = entries.view(latent.shape[0], latent.shape[2], -1).transpose(1, 2)
    if entries.requires_grad:
        return entries.to(latent.dtype)
    return latent + (entries - latent).detach()
