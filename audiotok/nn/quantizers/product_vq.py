"""Product quantization: groups of features, each with a codebook of its own."""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiotok._platform.errors import InputError
from audiotok._platform.shapes import Codes, Latent
from audiotok.nn.quantizers.base import Codebook, Count, LazySequence, Quantized, Quantizer
from audiotok.nn.quantizers.rvq import Euclidean


class Spherical(Codebook):
    """Codebook of unit vectors, learnt by gradient."""

    def __init__(self, features: int, size: int, *, seed: int = 0) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(seed)
        self.entries = nn.Parameter(F.normalize(torch.randn(size, features, generator=random)))

    def search(self, x: Tensor) -> Tensor:
        """Return the indices `[n]` of the entries at the smallest angle to frames `[n d]`."""
        return (F.normalize(x) @ F.normalize(self.entries).T).argmax(1)

    def look_up(self, index: Tensor) -> Tensor:
        """Return the unit vectors of indices of any shape, features last."""
        return F.normalize(F.embedding(index, self.entries), dim=-1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the unit vectors `[n d]`, indices `[n]` and losses `[n]` of frames `[n d]`.

        The loss is the commitment loss plus four times the codebook loss: the usual 0.25 to 1,
        times four.
        """
        x = F.normalize(x)
        index = self.search(x.detach())
        entry = self.look_up(index)
        loss = (x - entry.detach()).square().mean(1) + 4 * (x.detach() - entry).square().mean(1)
        return x + (entry - x).detach(), index, loss


class ProductVq(Quantizer):
    """Product quantizer: `codebooks` groups of neighbouring features, one codebook each.

    A prefix of the codes can be decoded: features of missing groups are zero.

    Args:
        features: width d of the latent.
        codebooks: number of groups, a divisor of d.
        size: number of entries in each codebook.
        kind: `euclidean`: nearest entry, learnt by moving averages; or `spherical`: nearest
            direction, where lengths are not coded (grouped spherical quantization).
        decay: decay of the moving averages of a euclidean codebook (`rvq.Euclidean`).
        revive: usage below which a euclidean entry is replaced (`rvq.Euclidean`).
        seed: random seed of the initial entries.

    Source: Jégou et al. 2011, IEEE TPAMI 33(1), section II-B; spherical: Wang et al. 2024,
    arXiv:2412.02632.

    Raises:
        ValueError: the number of groups does not divide the features.
    """

    def __init__(
        self,
        features: int,
        *,
        codebooks: Count = 8,
        size: Count = 1024,
        kind: Literal["euclidean", "spherical"] = "euclidean",
        decay: float = 0.99,
        revive: float = 0.05,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if features % codebooks:
            raise InputError(f"{features} features in {codebooks} groups: they do not divide")
        self.sizes = (size,) * codebooks
        self.width = features // codebooks
        self.groups = nn.ModuleList(
            Euclidean(self.width, size, decay=decay, revive=revive, seed=seed + i)
            if kind == "euclidean"
            else Spherical(self.width, size, seed=seed + i)
            for i in range(codebooks)
        )

    def _groups(self) -> list[Codebook]:
        return cast("list[Codebook]", list(self.groups))

    def _split(self, latent: Latent) -> tuple[Tensor, ...]:
        """Split latents `[b d f]` into the features `[b f d/k]` of each group."""
        return latent.float().transpose(1, 2).split(self.width, 2)

    def forward(self, latent: Latent, keep: Tensor | None = None) -> Quantized:
        """See `Quantizer.forward`; the one loss is `commitment`, a mean over the groups in use."""
        b, _, f = latent.shape
        used = torch.arange(self.codebooks, device=latent.device).expand(b, -1)
        used = used < (self.codebooks if keep is None else keep[:, None])
        entries, codes, losses = [], [], []
        with torch.autocast(latent.device.type, enabled=False):
            for group, x in zip(self._groups(), self._split(latent), strict=True):
                entry, index, loss = group(x.flatten(0, 1))
                entry = entry.view(x.shape).transpose(1, 2)
                if not entry.requires_grad:
                    entry = x.transpose(1, 2) + (entry - x.transpose(1, 2)).detach()
                entries.append(entry)
                codes.append(index.view(b, f))
                losses.append(loss.view(b, f).mean(1))
            whole = torch.cat(entries, 1) * used.repeat_interleave(self.width, 1)[:, :, None]
            commitment = (torch.stack(losses, 1) * used).sum() / used.sum().clamp(min=1)

        def alone(k: int) -> Tensor:
            """Decode the k-th code alone."""
            before, after = k * self.width, (self.codebooks - 1 - k) * self.width
            return F.pad(entries[k], (0, 0, before, after)).to(latent.dtype)

        return Quantized(
            latent=whole.to(latent.dtype),
            codes=torch.stack(codes, 1),
            losses={"commitment": commitment},
            first=alone(0),
            stages=LazySequence(self.codebooks, alone),
        )

    @torch.no_grad()
    def encode(self, latent: Latent, codebooks: int | None = None) -> Codes:
        """See `Quantizer.encode`."""
        codebooks = self.check(codebooks)
        with torch.autocast(latent.device.type, enabled=False):
            parts = zip(self._groups()[:codebooks], self._split(latent), strict=False)
            return torch.stack([g.search(x.flatten(0, 1)).view(x.shape[:2]) for g, x in parts], 1)

    def decode(self, codes: Codes) -> Latent:
        """See `Quantizer.decode`; features of missing groups are zero."""
        missing = self.codebooks - self.check(codes.shape[1])
        with torch.autocast(codes.device.type, enabled=False):
            parts = zip(self._groups(), codes.unbind(1), strict=False)
            entries = torch.cat([group.look_up(rows) for group, rows in parts], 2)
            return F.pad(entries, (0, missing * self.width)).transpose(1, 2)
