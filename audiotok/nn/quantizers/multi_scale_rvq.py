"""Multi-scale residual quantization of SNAC: a code of a coarse codebook spans several latents.

latents      |  0  |  1  |  2  |  3  |     a frame: as many as the coarsest code spans
codebook 0   |----------- a ---------|     codes the mean of the latents
codebook 1   |---- b ----|---- c ----|     codes means of the residual
codebook 2   |- d -|- e -|- f -|- g -|     codes the residual
codes        a b c d e f g                 7 per frame: by codebook, then in time
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiotok._platform.errors import InputError
from audiotok._platform.shapes import Codes, Latent
from audiotok.nn.quantizers.base import Count, LazySequence, Quantized, Quantizer
from audiotok.nn.quantizers.rvq import Factorised


class MultiScaleRvq(Quantizer):
    """Residual quantizer whose codebooks have several rates; a frame is one code of the coarsest.

    A prefix of the codes can be decoded: missing codes add nothing. SNAC was trained on prefixes
    that end with a codebook (1, 3 and 7 codes for spans 4, 2, 1).

    Args:
        features: width d of a frame, that of a latent times the number of latents: the features of
            the first latent, then those of the second (`nn.layers.fold.Fold`).
        spans: latents per code of each codebook, the coarsest first.
        size: number of entries in a codebook.
        width: width of the projection that a codebook is searched in (`rvq.Factorised`).

    Source: Siuzdak et al. 2024, arXiv:2410.14411, section 3.1; package snac 1.2.1.

    Raises:
        ValueError: a span does not divide the first span, or the first does not divide `features`.
    """

    def __init__(
        self,
        features: int,
        *,
        spans: Sequence[Count] = (4, 2, 1),
        size: Count = 4096,
        width: Count = 8,
    ) -> None:
        super().__init__()
        self.spans = tuple(spans)
        self.steps = spans[0]
        if features % self.steps or any(self.steps % span for span in spans):
            raise InputError(f"features {features} and spans {self.spans} do not divide evenly")
        self.sizes = (size,) * sum(self.steps // span for span in spans)
        self.stages = nn.ModuleList(
            Factorised(features // self.steps, size, width=width) for _ in spans
        )

    def levels(self) -> Iterator[tuple[Factorised, int, int]]:
        """Yield each codebook, its latents per code, and the index of its first code."""
        first = 0
        for codebook, span in zip(self.stages, self.spans, strict=True):
            yield cast("Factorised", codebook), span, first
            first += self.steps // span

    def forward(self, latent: Latent, keep: Tensor | None = None) -> Quantized:
        """See `Quantizer.forward`; `keep` is a number of codes.

        The one loss is `commitment`, a mean over the codes in use.
        """
        b, f = len(latent), latent.shape[2]
        used = torch.arange(self.codebooks, device=latent.device).expand(b, -1)
        used = used < (self.codebooks if keep is None else keep[:, None])
        with torch.autocast(latent.device.type, enabled=False):
            rest = self._unpacked(latent.float())
            total, commitment, codes = torch.zeros_like(rest), rest.new_zeros(()), []
            entries: list[tuple[Tensor, int]] = []  # entry of each code, and the latents it spans
            for codebook, span, first in self.levels():
                means = rest.unflatten(2, (-1, span)).mean(3)
                entry, index, loss = codebook(means.flatten(0, 2))
                entry, count = entry.view_as(means), means.shape[2]
                mine = used[:, None, first : first + count]
                rest = rest - entry.detach().repeat_interleave(span, 2)
                total = total + (entry * mine[..., None]).repeat_interleave(span, 2)
                commitment = commitment + (loss.view(b, f, count) * mine).sum() / f
                codes.append(index.view(b, f, count).transpose(1, 2))
                entries += [(one, span) for one in entry.unbind(2)]

        def alone(k: int) -> Tensor:
            """Decode the k-th code alone."""
            entry, span = entries[k]
            before = sum(other for _, other in entries[:k]) % self.steps
            steps = entry[:, :, None].expand(-1, -1, span, -1)
            steps = F.pad(steps, (0, 0, before, self.steps - before - span))
            return self._packed(steps).to(latent.dtype)

        return Quantized(
            latent=self._packed(total).to(latent.dtype),
            codes=torch.cat(codes, 1),
            losses={"commitment": commitment / used.sum().clamp(min=1)},
            first=alone(0),
            stages=LazySequence(self.codebooks, alone),
        )

    @torch.no_grad()
    def encode(self, latent: Latent, codebooks: int | None = None) -> Codes:
        """Return the first `codebooks` codes of every frame (all if None)."""
        codebooks, codes = self.check(codebooks), []
        with torch.autocast(latent.device.type, enabled=False):
            rest = self._unpacked(latent.float())
            for codebook, span, first in self.levels():
                if first >= codebooks:
                    break
                means = rest.unflatten(2, (-1, span)).mean(3)
                index = codebook.search(means.flatten(0, 2)).view(means.shape[:3])
                rest = rest - codebook.look_up(index).repeat_interleave(span, 2)
                codes.append(index.transpose(1, 2))
        return torch.cat(codes, 1)[:, :codebooks]

    def decode(self, codes: Codes) -> Latent:
        """Return the frames of codes `[b k f]`, of any prefix of the codes of a frame."""
        self.check(codes.shape[1])
        parts = []
        with torch.autocast(codes.device.type, enabled=False):
            for codebook, span, first in self.levels():
                mine = codes[:, first : first + self.steps // span]
                entry = codebook.look_up(mine.transpose(1, 2)).repeat_interleave(span, 2)
                parts.append(F.pad(entry, (0, 0, 0, self.steps - entry.shape[2])))
            return self._packed(torch.stack(parts).sum(0))

    def _unpacked(self, latent: Latent) -> Tensor:
        """Rearrange frames `[b steps*c f]` to `[b f steps c]`."""
        return latent.unflatten(1, (self.steps, -1)).permute(0, 3, 1, 2)

    def _packed(self, steps: Tensor) -> Latent:
        """Rearrange latents `[b f steps c]` to frames `[b steps*c f]`."""
        return steps.permute(0, 2, 3, 1).flatten(1, 2)
