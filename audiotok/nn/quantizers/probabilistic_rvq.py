"""Residual vector quantization with a probability for every entry, so that all entries learn.

    p(z | c) = N(z; sum of the entries e_d(c_d), sigma^2 I)
    q*(c_d | z) ~ p(z | c_d, c*_-d), where c* are the nearest entries of residuals, as in `Rvq`

Codes are c*, those of `Rvq`. In training each codebook lowers the expected surprise
E_q*[-log p(z | c_d, c*_-d)]: what the other codebooks leave of a frame draws every entry as likely
as it is that entry's, where `Rvq` draws the nearest one only. sigma is learnt as well: it begins as
the deviation of the first batch, so that at first all entries share all frames, and falls with the
error. As it goes to zero q* chooses the nearest entry.

Source: CLaM-TTS (Kim et al. 2024, arXiv:2404.02781), section 3.1.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiotok._platform.shapes import Latent
from audiotok.nn.clusters import kmeans, nearest
from audiotok.nn.quantizers.base import Codebook, Count, LazySequence, Quantized
from audiotok.nn.quantizers.rvq import Rvq


class _Entries(Codebook):
    """Entries `[size features]` that are learnt by gradient."""

    def __init__(self, features: int, size: int) -> None:
        super().__init__()
        self.entries = nn.Parameter(torch.randn(size, features))

    def search(self, x: Tensor) -> Tensor:
        """See `Codebook.search`."""
        return nearest(x, self.entries.detach())

    def look_up(self, index: Tensor) -> Tensor:
        """See `Codebook.look_up`."""
        return F.embedding(index, self.entries)


class ProbabilisticRvq(Rvq):
    """Residual quantizer whose entries all learn from all frames.

    Args:
        features: width d of the latent.
        codebooks: number of codebooks.
        size: number of entries in each codebook.
        seed: random seed of the k-means that initialises the codebooks from the first batch.
    """

    begun: Tensor

    def __init__(
        self, features: int, *, codebooks: Count = 32, size: Count = 1024, seed: int = 0
    ) -> None:
        super().__init__(features, codebooks=0)
        self.sizes = (size,) * codebooks
        self.stages = nn.ModuleList(_Entries(features, size) for _ in range(codebooks))
        self.log_sigma = nn.Parameter(torch.zeros(()))
        self.seed = seed
        # 0 until the first training batch has initialised the entries.
        self.register_buffer("begun", torch.zeros(()))

    @property
    def books(self) -> list[_Entries]:
        """The codebooks."""
        return cast("list[_Entries]", list(self.stages))

    def forward(self, latent: Latent, keep: Tensor | None = None) -> Quantized:
        """See `Quantizer.forward`; gradients of the output reach the latent, not the entries.

        The one loss, `commitment`, is the mean squared error of the latent, which the encoder
        lowers, plus the expected surprise of a codebook in nats a feature, which the entries lower.
        """
        b, d, f = latent.shape
        with torch.autocast(latent.device.type, enabled=False):
            x = latent.float().transpose(1, 2).reshape(b * f, d)
            if self.training and not self.begun and len(x):
                self._initialise(x.detach())
            codes = self.encode(latent)
            rows = codes.transpose(0, 1).reshape(self.codebooks, b * f)
            entries = [book.look_up(row) for book, row in zip(self.books, rows, strict=True)]
            used = torch.ones(self.codebooks, len(x), device=x.device)
            if keep is not None:
                counts = keep.to(x.device).repeat_interleave(f)
                used = (counts > torch.arange(self.codebooks, device=x.device)[:, None]).to(x)
            total = sum(entry.detach() * u[:, None] for entry, u in zip(entries, used, strict=True))
            commitment = (x - total).square().mean() + self._surprise(x.detach(), entries)

        def through(of: Tensor) -> Latent:
            """Return frames `[n d]` as latents with the gradient of the latent."""
            frames = of.detach().view(b, f, d).transpose(1, 2)
            return latent + (frames - latent).detach()

        return Quantized(
            latent=through(cast("Tensor", total)),
            codes=codes,
            losses={"commitment": commitment},
            first=through(entries[0]),
            stages=LazySequence(self.codebooks, lambda i: through(entries[i])),
        )

    def posterior(self, latent: Latent) -> Tensor:
        """Return the probabilities q* `[b k f size]` of every entry, given all other codes.

        Args:
            latent: `[b d f]`.
        """
        b, d, f = latent.shape
        x = latent.float().transpose(1, 2).reshape(b * f, d)
        rows = self.encode(latent).transpose(0, 1).reshape(self.codebooks, b * f)
        entries = [book.look_up(row) for book, row in zip(self.books, rows, strict=True)]
        left = x - torch.stack(entries).sum(0)
        pairs = zip(self.books, entries, strict=True)
        shares = [self._weights(left + entry, book.entries)[0] for book, entry in pairs]
        return torch.stack(shares).view(self.codebooks, b, f, -1).transpose(0, 1)

    def _weights(self, x: Tensor, entries: Tensor) -> tuple[Tensor, Tensor]:
        """Return q* and squared distances `[n size]` of what is left to a codebook `[n d]`."""
        norms = x.square().sum(1, keepdim=True) + entries.square().sum(1)
        distances = torch.addmm(norms, x, entries.T, alpha=-2)
        precision = (-2 * self.log_sigma.detach()).exp()
        return torch.softmax(distances.detach() * (-precision / 2), 1), distances

    def _surprise(self, x: Tensor, entries: list[Tensor]) -> Tensor:
        """Return the mean of E_q*[-log p(z | c_d, c*_-d)] over codebooks, frames and features."""
        left = x - torch.stack(entries).sum(0)
        squares = x.new_zeros(())
        for book, entry in zip(self.books, entries, strict=True):
            weights, distances = self._weights(left + entry, book.entries)
            squares = squares + (weights * distances).sum()
        squares = squares / (max(1, x.numel()) * self.codebooks)
        return squares * (-2 * self.log_sigma).exp() / 2 + self.log_sigma

    @torch.no_grad()
    def _initialise(self, x: Tensor) -> None:
        """Set the entries to centres of residuals, codebook after codebook."""
        self.log_sigma.copy_(x.std(correction=0).clamp(min=1e-6).log())
        for i, book in enumerate(self.books):
            book.entries.copy_(kmeans(x, len(book.entries), seed=self.seed + i))
            x = x - book.look_up(book.search(x))
        self.begun.fill_(1.0)
