"""Residual vector quantization: each codebook codes what the ones before it left over.

Two kinds of codebook: `euclidean`, nearest entry, learnt by moving averages (EnCodec, Défossez et
al. 2022, arXiv:2210.13438, section 3.2), and `factorised`, nearest direction in a narrow learnt
projection, learnt by gradient (DAC, Kumar et al. 2023, arXiv:2306.06546, section 3.2).

Two bugs of most open implementations are absent here and have tests (tests/nn/test_quantizers.py):
entries that die are revived and stay revived, and the commitment loss of every stage reaches the
encoder.
"""

from __future__ import annotations

from typing import Literal, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from audiotok._platform.shapes import Codes, Latent
from audiotok.nn.quantizers.base import Codebook, Lazy, Quantized, Quantizer, kmeans, nearest


class Euclidean(Codebook):
    """A codebook learnt by exponential moving averages; it has no parameters, only buffers.

    `usage` is each entry's share of recent frames times `size`: 1 is its fair share. Entries
    below `revive` are dead and become frames of the present batch, with their averages, so that
    the next update starts from there (updating only the entry revives nothing: the next average
    undoes it).

    With `first`, features after those are zero in every entry: the search does not see them.
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
        self.decay, self.revive, self.seed = decay, revive, seed
        self.first = features if first is None else first
        random = torch.Generator().manual_seed(seed)
        self.register_buffer("entries", self._own(torch.randn(size, features, generator=random)))
        # No usage yet: the first training batch initialises by k-means.
        self.register_buffer("usage", torch.zeros(size))

    def search(self, x: Tensor) -> Tensor:
        """`[n d]` to indices `[n]`."""
        return nearest(x, self.entries)

    def look_up(self, index: Tensor) -> Tensor:
        """Indices of any shape to entries, features last."""
        return F.embedding(index, self.entries)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`[n d]` to entries `[n d]`, indices `[n]` and the loss of each frame `[n]`."""
        own = self._own(x.detach())
        if self.training and not self.usage.any():
            self._initialise(own)
        index = self.search(own)
        entry = self.look_up(index)
        if self.training:
            self._update(own, index)
        return entry, index, (x - entry)[:, : self.first].square().mean(1)

    def _own(self, x: Tensor) -> Tensor:
        """`x` with zeros for the features that this codebook leaves alone."""
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
        # An entry whose usage underflows keeps its place until it is revived.
        alive = usage[:, None] > 1e-6
        self.entries.copy_(
            torch.where(alive, summed / usage[:, None].clamp(min=1e-6), self.entries)
        )
        self.usage.copy_(usage)
        dead = usage < self.revive
        if dead.any():
            # Drawn with x's own random state on the first rank, then the same everywhere.
            pick = torch.randint(len(x), (size,), device=x.device)
            self.entries.copy_(torch.where(dead[:, None], _from_first(x[pick]), self.entries))
            self.usage.masked_fill_(dead, 1.0)


def _from_first(x: Tensor) -> Tensor:
    """`x` of the first process, in every process."""
    if dist.is_initialized():
        x = x.contiguous()
        dist.broadcast(x, 0)
    return x


class Factorised(Codebook):
    """A codebook searched by cosine in `width` dimensions, learnt by gradient."""

    def __init__(self, features: int, size: int, *, width: int = 8) -> None:
        super().__init__()
        self.down = nn.Linear(features, width)
        self.up = nn.Linear(width, features)
        self.entries = nn.Parameter(torch.randn(size, width))

    def search(self, x: Tensor) -> Tensor:
        """`[n d]` to indices `[n]`."""
        return self._search(self.down(x))

    def _search(self, narrow: Tensor) -> Tensor:
        # Between unit vectors the nearest is the one of largest dot product.
        return (F.normalize(narrow) @ F.normalize(self.entries).T).argmax(1)

    def look_up(self, index: Tensor) -> Tensor:
        """Indices of any shape to latents, features last."""
        return self.up(F.embedding(index, self.entries))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`[n d]` to latents `[n d]`, indices `[n]` and the loss of each frame `[n]`.

        The loss is commitment plus four times the codebook's own (DAC's weights 0.25 and 1).
        """
        narrow = self.down(x)
        index = self._search(narrow.detach())
        entry = F.embedding(index, self.entries)
        loss = (narrow - entry.detach()).square().mean(1)
        loss = loss + 4 * (narrow.detach() - entry).square().mean(1)
        return self.up(narrow + (entry - narrow).detach()), index, loss


class Rvq(Quantizer):
    """Residual vector quantizer, `codebooks` x `size`.

    Args:
        features: width d of the latent.
        codebooks: stages.
        size: entries in each.
        kind: `euclidean` or `factorised`.
        decay, revive: of a euclidean codebook (`Euclidean`).
        width: of a factorised codebook (`Factorised`).
        seed: of the k-means that initialises euclidean codebooks from the first batch.
        early: of the stages, how many (euclidean) code the first `early_features` features only.
            The rest is left to later stages, and these features learn nothing from audio that
            was made with more than the early stages: so the first codebooks keep to what they
            are for, whatever the later ones are asked to add.
        early_features: how many features those are.
    """

    def __init__(
        self,
        features: int,
        *,
        codebooks: int = 8,
        size: int = 1024,
        kind: Literal["euclidean", "factorised"] = "euclidean",
        decay: float = 0.99,
        revive: float = 0.05,
        width: int = 8,
        seed: int = 0,
        early: int = 0,
        early_features: int = 0,
    ) -> None:
        super().__init__()
        if early and (
            kind != "euclidean" or early > codebooks or not 0 < early_features <= features
        ):
            raise ValueError(
                f"early={early} early_features={early_features}: at most {codebooks} codebooks "
                f"and {features} features, of kind euclidean"
            )
        self.sizes = (size,) * codebooks
        self.early, self.early_features = early, early_features
        self.stages = nn.ModuleList(
            Euclidean(
                features,
                size,
                decay=decay,
                revive=revive,
                seed=seed + i,
                first=early_features if i < early else features,
            )
            if kind == "euclidean"
            else Factorised(features, size, width=width)
            for i in range(codebooks)
        )

    def _stages(self) -> list[Codebook]:
        return cast("list[Codebook]", list(self.stages))

    def forward(self, latent: Latent, keep: Tensor | None = None) -> Quantized:
        """See `Quantizer.forward`; the one loss is `commitment`, a mean over stages in use."""
        b, d, f = latent.shape
        with _full_precision(latent):
            residual = latent.float().transpose(1, 2).reshape(b * f, d)
            total = torch.zeros_like(residual)
            entries: list[Tensor] = []
            codes, commitment, stages = [], residual.new_zeros(()), residual.new_zeros(())
            for i, stage in enumerate(self._stages()):
                entry, index, loss = stage(residual)
                # Detached: else the stages' commitments cancel in the encoder, all but the first.
                residual = residual - entry.detach()
                used = residual.new_ones(b) if keep is None else (keep > i).to(residual)
                total = total + entry * used.repeat_interleave(f)[:, None]
                commitment = commitment + (loss.view(b, f).mean(1) * used).sum()
                stages = stages + used.sum()
                codes.append(index.view(b, f))
                entries.append(entry)
        return Quantized(
            latent=_straight_through(total, self._shielded(latent, keep)),
            codes=torch.stack(codes, 1),
            losses={"commitment": commitment / stages.clamp(min=1)},
            first=_straight_through(entries[0], self._seen(0, latent)),
            stages=Lazy(
                len(entries), lambda i: _straight_through(entries[i], self._seen(i, latent))
            ),
        )

    def _seen(self, stage: int, latent: Latent) -> Latent:
        """The latent with a gradient for the features that a stage codes, and no other."""
        if stage >= self.early:
            return latent
        own, rest = latent.split([self.early_features, latent.shape[1] - self.early_features], 1)
        return torch.cat([own, rest.detach()], 1)

    def _shielded(self, latent: Latent, keep: Tensor | None) -> Latent:
        """Early features without a gradient where more than the early codebooks are in use."""
        if not self.early:
            return latent
        own, rest = latent.split([self.early_features, latent.shape[1] - self.early_features], 1)
        late = latent.new_ones(len(latent)) if keep is None else (keep > self.early).to(latent)
        late = late[:, None, None]
        return torch.cat([late * own.detach() + (1 - late) * own, rest], 1)

    @torch.no_grad()
    def encode(self, latent: Latent, codebooks: int | None = None) -> Codes:
        """Codes of the first `codebooks` codebooks (all if None)."""
        b, d, f = latent.shape
        codes = []
        with _full_precision(latent):
            residual = latent.float().transpose(1, 2).reshape(b * f, d)
            for stage in self._stages()[: self.check(codebooks)]:
                index = stage.search(residual)
                residual = residual - stage.look_up(index)
                codes.append(index.view(b, f))
        return torch.stack(codes, 1)

    def decode(self, codes: Codes) -> Latent:
        """Sum of the entries; the codes may be those of any prefix of the codebooks."""
        self.check(codes.shape[1])
        with _full_precision(codes):
            parts = [
                stage.look_up(rows)
                for stage, rows in zip(self._stages(), codes.unbind(1), strict=False)
            ]
            return torch.stack(parts).sum(0).transpose(1, 2)


def _full_precision(x: Tensor) -> torch.autocast:
    """Distances and averages need more than bf16's 8 bits, whatever the model runs in."""
    return torch.autocast(x.device.type, enabled=False)


def _straight_through(made: Tensor, latent: Tensor) -> Tensor:
    """`made [b*f d]` in the shape of `latent [b d f]`, with `latent`'s gradient.

    A factorised codebook has a gradient path of its own through its projections.
    """
    made = made.view(latent.shape[0], latent.shape[2], -1).transpose(1, 2)
    if made.requires_grad:
        return made.to(latent.dtype)
    return latent + (made - latent).detach()
