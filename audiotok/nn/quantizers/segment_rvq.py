"""Residual vector quantization of whole segments: a frame holds the number of latents in a segment,
the loudness of the segment, and the codes of all its latents, codebook by codebook.

    codes of a frame    count | exponent mantissa | c0 of latent 0, 1, ... | c1 of latent 0, 1, ...

Loudness is coded with 16 significant bits, as m x 2^e with m in [1/2, 1).

For EnCodec 48 kHz (Défossez et al. 2022, arXiv:2210.13438), which codes segments of one second.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from audiotok._platform.shapes import Codes, Latent
from audiotok.nn.quantizers.base import Count, LazySequence, NoTableError, Quantized, Quantizer
from audiotok.nn.quantizers.rvq import Euclidean, Rvq

HEAD = 3  # number of codes before those of the latents
EXPONENTS, MANTISSAS = 256, 2**15


class SegmentRvq(Quantizer):
    """Quantizer of the frames `[b 2+latents*features f]` of `nn.layers.segments.Cut`.

    Any prefix of the codes of a frame can be decoded: missing codes of latents add nothing, and a
    missing loudness is 1.

    Args:
        features: width of a latent.
        latents: largest number of latents in a segment.
        codebooks: number of codebooks for each latent.
        size: number of entries in each codebook.
        options: further options of `Rvq`.
    """

    rvq: Rvq
    of_latents = False

    def __init__(
        self,
        features: int,
        *,
        latents: Count = 150,
        codebooks: Count = 16,
        size: Count = 1024,
        **options: Any,
    ) -> None:
        super().__init__()
        rvq = Rvq(features, codebooks=codebooks, size=size, **options)
        self.stages = rvq.stages
        # Not registered as a module: its codebooks are ours, under the names of a plain `Rvq`.
        object.__setattr__(self, "rvq", rvq)
        self.features = features
        self.latents = latents
        self.sizes = (latents + 1, EXPONENTS, MANTISSAS, *(size,) * (codebooks * latents))

    def forward(self, latent: Latent, keep: Tensor | None = None) -> Quantized:
        """See `Quantizer.forward`; `keep` is a number of codes. The one loss is `commitment`."""
        b, f = len(latent), latent.shape[2]
        if keep is not None:
            keep = ((keep - HEAD) // self.latents).clamp(min=1).repeat_interleave(f)
        quantized = self.rvq(self._inner(latent), keep)
        codes = torch.cat([self._head(latent), self._rows(quantized.codes, b)], 1)
        head = self.decode(codes[:, :HEAD])[:, :2]
        whole = torch.cat([head, self._outer(quantized.latent, b)], 1)

        def alone(k: int) -> Tensor:
            """Decode the k-th code alone."""
            one = self.decode(codes[:, : k + 1])
            one = one - self.decode(codes[:, :k]) if k else one
            return latent + (one - latent).detach()

        separate = LazySequence(len(self.sizes), alone)
        return Quantized(whole, codes, quantized.losses, alone(0), separate)

    def set_search(self, paths: int, fixed: int = 0) -> bool:
        """See `Quantizer.set_search`; of the codes of latents, none of which is fixed."""
        return self.rvq.set_search(paths)

    @torch.no_grad()
    def encode(self, latent: Latent, codebooks: int | None = None) -> Codes:
        """Return the first `codebooks` codes of every frame (all if None)."""
        codebooks = self.check(codebooks)
        books = -(-max(1, codebooks - HEAD) // self.latents)
        inner = self.rvq.encode(self._inner(latent), books)
        return torch.cat([self._head(latent), self._rows(inner, len(latent))], 1)[:, :codebooks]

    def decode(self, codes: Codes) -> Latent:
        """Return the frames of codes `[b k f]`, of any prefix of the codes of a frame."""
        b, rows, f = codes.shape
        self.check(rows)
        count = codes[:, :1].float()
        loudness = torch.ones_like(count)
        if rows > 1:
            fine = codes[:, 2:3] if rows > 2 else torch.full_like(codes[:, :1], MANTISSAS // 2)
            mantissa = (1 + (fine.float() + 0.5) / MANTISSAS) / 2
            loudness = torch.ldexp(mantissa, codes[:, 1:2] - EXPONENTS // 2)
        latent = count.new_zeros(b * f, self.features, self.latents)
        full, rest = divmod(max(0, rows - HEAD), self.latents)
        if rows > HEAD:
            mine = codes[:, HEAD:].transpose(1, 2).flatten(0, 1)  # [b*f codes]
            if full:
                books = mine[:, : full * self.latents].unflatten(1, (full, self.latents))
                latent = latent + self.rvq.decode(books)
            if rest:
                codebook = cast("Euclidean", self.stages[full])
                entry = codebook.look_up(mine[:, full * self.latents :])
                latent = latent + F.pad(entry.transpose(1, 2), (0, self.latents - rest))
        return torch.cat([count, loudness, self._outer(latent, b)], 1)

    def table(self, codebook: int) -> Tensor:
        """Raise NoTableError: latents are multiplied by the loudness, and cut off at the count."""
        raise NoTableError(
            "codes of segments do not decode to a sum: the first ones are a count and a loudness; "
            "quantizer.rvq.table(i) is that of the latents in a segment, before the loudness"
        )

    def _head(self, latent: Tensor) -> Tensor:
        """Return the codes of count and loudness, `[b 3 f]`."""
        count = latent[:, 0].round().clamp(0, self.latents)
        mantissa, exponent = torch.frexp(latent[:, 1].float().abs().clamp(min=1e-30))
        fine = ((2 * mantissa - 1) * MANTISSAS).floor().clamp(0, MANTISSAS - 1)
        coarse = (exponent + EXPONENTS // 2).clamp(0, EXPONENTS - 1)
        return torch.stack([count.long(), coarse.long(), fine.long()], 1)

    def _inner(self, latent: Tensor) -> Latent:
        """Return the latents `[b*f features latents]` in frames."""
        steps = latent[:, 2:].transpose(1, 2).flatten(0, 1)
        return steps.unflatten(1, (self.latents, self.features)).transpose(1, 2)

    def _outer(self, latent: Tensor, b: int) -> Tensor:
        """Return latents as frames without the head, `[b latents*features f]`."""
        return latent.transpose(1, 2).flatten(1).unflatten(0, (b, -1)).transpose(1, 2)

    def _rows(self, codes: Tensor, b: int) -> Tensor:
        """Rearrange codes `[b*f k latents]` to `[b k*latents f]`."""
        return codes.flatten(1).unflatten(0, (b, -1)).transpose(1, 2)
