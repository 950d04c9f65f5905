"""Base classes of quantizers: latents to codes and back, with the losses that train them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Annotated, ClassVar, cast, overload

import torch
from torch import Tensor, nn

from audiotok._platform.config import ONE_OR_MORE
from audiotok._platform.shapes import Codes, Latent
from audiotok.tokens.codebooks import NoTableError as NoTableError
from audiotok.tokens.tokenizer import kept

Count = Annotated[int, ONE_OR_MORE]
"""Type of an option that is a number of things, of which there is one at least."""


@dataclass(frozen=True)
class Quantized:
    """Output of a quantizer in training.

    Attributes:
        latent: `[b d f]`, the decoded codes, with a straight-through gradient.
        codes: `[b k f]`, of all codebooks, whatever the dropout.
        losses: scalar losses by name, each already a mean.
        first: `[b d f]`, the decoded codes of the first codebook alone, for distillation.
        stages: `[b d f]` for each codebook, the decoded codes of that codebook alone, computed on
            access; their sum is what all codebooks decode to.
    """

    latent: Tensor
    codes: Tensor
    losses: dict[str, Tensor] = field(default_factory=dict)
    first: Tensor | None = None
    stages: Sequence[Tensor] = ()


class LazySequence(Sequence[Tensor]):
    """Sequence of `compute(0)` to `compute(size - 1)`, each computed on access."""

    def __init__(self, size: int, compute: Callable[[int], Tensor]) -> None:
        self._size = size
        self._compute = compute

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> list[Tensor]: ...
    def __getitem__(self, index: int | slice) -> Tensor | list[Tensor]:
        chosen = range(self._size)[index]
        if isinstance(chosen, int):
            return self._compute(chosen)
        return [self._compute(i) for i in chosen]


class Quantizer(nn.Module):
    """Map from latents `[b d f]` to codes `[b k f]` and back.

    Attributes:
        sizes: number of entries in each codebook.
        of_latents: whether it takes the latents of any network, and not what one makes of them.
        latent_width: features of the latents, of `Continuous`, which keeps them; 0 of all others.
        one_pass: whether all that it learns is told by latents that it sees once.
    """

    sizes: tuple[int, ...]
    of_latents: ClassVar[bool] = True
    one_pass: ClassVar[bool] = False
    latent_width: int = 0

    @property
    def codebooks(self) -> int:
        """Codes per frame."""
        return len(self.sizes)

    @property
    def rows(self) -> int:
        """Numbers per frame: codes, or those of latents that are kept."""
        return self.latent_width or self.codebooks

    def forward(self, latent: Latent, keep: Tensor | None = None) -> Quantized:
        """Quantize for training; in training mode this also updates the buffers.

        Args:
            latent: `[b d f]`.
            keep: `[b]`, number of codebooks that the output of each recording uses (quantizer
                dropout, Zeghidour et al. 2021, arXiv:2107.03312, section III-C); all if None.
        """
        raise NotImplementedError

    def encode(self, latent: Latent, codebooks: int | None = None) -> Codes:
        """Return the codes `[b k f]` of the first `codebooks` codebooks (all if None)."""
        raise NotImplementedError

    def decode(self, codes: Codes) -> Latent:
        """Return the latents `[b d f]` of codes `[b k f]` of the first k codebooks, for any k."""
        raise NotImplementedError

    def set_search(self, paths: int, fixed: int = 0) -> bool:
        """Let `encode` keep several choices of codes for each frame (`nn.beam_search`).

        Args:
            paths: choices that are kept; 1 for the nearest entries in turn.
            fixed: number of codebooks, from the first, whose codes stay the nearest entries.

        Returns:
            Whether anything here can be searched so: residual codebooks.
        """
        return False

    def table(self, codebook: int) -> Tensor:
        """Return the table `[entries d]` of a codebook: what each of its codes adds to a latent.

        `decode` returns the sum of the rows of a frame's codes, up to rounding, also for the first
        codebooks alone.

        Args:
            codebook: number of the codebook, from 0.

        Raises:
            NoTableError: codes do not decode to a sum, or the table is too large.
        """
        size = self.sizes[codebook]
        if size > LARGEST_TABLE:
            raise NoTableError(
                f"codebook {codebook} has {size} entries: a table would not fit in memory; "
                "quantizer.decode(codes) returns those of the codes at hand"
            )
        like = next(chain(self.parameters(), self.buffers()), torch.empty(0))
        codes = torch.zeros(1, codebook + 1, size, dtype=torch.int64, device=like.device)
        codes[0, codebook] = torch.arange(size, device=like.device)
        if not codebook:
            return self.decode(codes)[0].T
        table = self._added(codes)
        others = torch.tensor(self.sizes[:codebook], device=like.device)[None, :, None] - 1
        after_others = torch.cat([others.expand(1, -1, size), codes[:, codebook:]], 1)
        if not torch.allclose(self._added(after_others), table, rtol=1e-3, atol=1e-4):
            raise NoTableError(
                f"what codebook {codebook} adds to a latent depends on the codes before it"
            )
        return table

    def _added(self, codes: Codes) -> Tensor:
        """Return the rows `[f d]` by which the last codebook of codes `[1 k f]` changes latents."""
        whole, less = self.decode(codes), self.decode(codes[:, :-1])
        if whole.shape != less.shape:
            raise NoTableError("a codebook widens the latent, where it should add to it")
        return (whole - less)[0].T

    def check(self, codebooks: int | None) -> int:
        """Return the number of codebooks to use: `codebooks`, or all if None.

        Raises:
            ValueError: there are not so many, or it is less than one.
        """
        return kept(codebooks, self.codebooks)


LARGEST_TABLE = 1 << 20  # entries in a table: 400 MB at 96 features


class PartedQuantizer(Quantizer):
    """Quantizers of parts of the latent, whose codes go part after part.

    A subclass says what each part is given of the latent, and what they make together. A prefix of
    the codes decodes: a part without codes contributes nothing.

    Attributes:
        shielded: number of parts, from the first, that get no gradient through what they decode to.
    """

    shielded: int = 0

    def quantizers(self) -> list[Quantizer]:
        """Return the quantizer of each part."""
        raise NotImplementedError

    def views(self, latent: Latent) -> Sequence[Tensor]:
        """Return the latent `[b d f]` as each part quantizes it."""
        raise NotImplementedError

    def combined(self, outputs: Sequence[Tensor | None]) -> Latent:
        """Return the latent `[b d f]` of what the parts decode to; None for a part without codes,
        which the first never is alone."""
        raise NotImplementedError

    def forward(self, latent: Latent, keep: Tensor | None = None) -> Quantized:
        """See `Quantizer.forward`; the one loss is `commitment`, a mean over codebooks in use."""
        keep = latent.new_full((len(latent),), self.codebooks) if keep is None else keep.to(latent)
        results: list[Quantized] = []
        outputs: list[Tensor | None] = []
        first = 0
        with torch.autocast(latent.device.type, enabled=False):
            x = latent.float()
            commitment, count = x.new_zeros(()), x.new_zeros(())
            for part, view in zip(self.quantizers(), self.views(x), strict=True):
                used = (keep - first).clamp(0, part.codebooks)
                result = part(view, used)
                output = result.latent.detach() if len(results) < self.shielded else result.latent
                # A part that a recording does not use gets no gradient either.
                outputs.append(output * (used > 0)[:, None, None])
                results.append(result)
                commitment = commitment + result.losses["commitment"] * used.sum()
                count = count + used.sum()
                first += part.codebooks
            total = self.combined(outputs)

        def alone(k: int) -> Tensor:
            """Decode the k-th code alone."""
            counts = [len(result.stages) for result in results]
            part, own = [(i, j) for i, count in enumerate(counts) for j in range(count)][k]
            with torch.autocast(latent.device.type, enabled=False):
                single = [torch.zeros_like(result.latent) for result in results]
                single[part] = results[part].stages[own].float()
                return self.combined(single).to(latent.dtype)

        return Quantized(
            latent=total.to(latent.dtype),
            codes=torch.cat([result.codes for result in results], 1),
            losses={"commitment": commitment / count.clamp(min=1)},
            first=alone(0),
            stages=LazySequence(self.codebooks, alone),
        )

    def set_search(self, paths: int, fixed: int = 0) -> bool:
        """See `Quantizer.set_search`."""
        able = []
        for part in self.quantizers():
            able.append(part.set_search(paths, min(fixed, part.codebooks)))
            fixed = max(0, fixed - part.codebooks)
        return any(able)

    @torch.no_grad()
    def encode(self, latent: Latent, codebooks: int | None = None) -> Codes:
        """See `Quantizer.encode`."""
        left, codes = self.check(codebooks), []
        with torch.autocast(latent.device.type, enabled=False):
            for part, view in zip(self.quantizers(), self.views(latent.float()), strict=True):
                if left > 0:
                    codes.append(part.encode(view, min(left, part.codebooks)))
                left -= part.codebooks
        return torch.cat(codes, 1)

    def decode(self, codes: Codes) -> Latent:
        """See `Quantizer.decode`."""
        self.check(codes.shape[1])
        outputs: list[Tensor | None] = []
        first = 0
        with torch.autocast(codes.device.type, enabled=False):
            for part in self.quantizers():
                rows = codes[:, first : first + part.codebooks]
                outputs.append(part.decode(rows) if rows.shape[1] else None)
                first += part.codebooks
            return self.combined(outputs)


class SideBySide(PartedQuantizer):
    """Quantizers of neighbouring features, whose codes go part after part.

    A prefix of the codes decodes: features of parts that are missing are zero.

    Args:
        parts: number of features of each part, and its quantizer.
    """

    def __init__(self, parts: Sequence[tuple[int, Quantizer]]) -> None:
        super().__init__()
        self.widths = [width for width, _ in parts]
        self.parts = nn.ModuleList(part for _, part in parts)
        self.sizes = tuple(size for _, part in parts for size in part.sizes)

    def quantizers(self) -> list[Quantizer]:
        """See `PartedQuantizer.quantizers`."""
        return cast("list[Quantizer]", list(self.parts))

    def views(self, latent: Latent) -> Sequence[Tensor]:
        """See `PartedQuantizer.views`; the features of each part."""
        return latent.split(self.widths, 1)

    def combined(self, outputs: Sequence[Tensor | None]) -> Latent:
        """See `PartedQuantizer.combined`; parts side by side, zeros for those without codes."""
        like = next(output for output in outputs if output is not None)
        shapes = ((like.shape[0], width, like.shape[2]) for width in self.widths)
        pairs = zip(outputs, shapes, strict=True)
        return torch.cat([like.new_zeros(*shape) if x is None else x for x, shape in pairs], 1)


class Codebook(nn.Module):
    """Entries and a search among them, as used by residual stages and groups of features."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the entries `[n d]`, indices `[n]` and losses `[n]` of frames `[n d]`."""
        raise NotImplementedError

    def search(self, x: Tensor) -> Tensor:
        """Return the indices `[n]` of the entries chosen for frames `[n d]`."""
        raise NotImplementedError

    def distances(self, x: Tensor) -> Tensor:
        """Return values `[n size]` that order the entries as `search` does, the chosen one least;
        for codebooks that a beam search can use."""
        raise NotImplementedError

    def look_up(self, index: Tensor) -> Tensor:
        """Return the entries of indices of any shape, features last."""
        raise NotImplementedError


class OneCode(Quantizer):
    """Quantizer of one code per frame, in `width` features between two linear maps.

    There are no maps where the latent already has that width. A subclass sets `sizes` and
    implements `quantize`, `search` and `look_up`. As there is one codebook, `keep` has no effect.

    Args:
        features: width d of the latent.
        width: width w of the projected latent, which is quantized.
    """

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        same = width == features
        self.down = nn.Identity() if same else nn.Linear(features, width)
        self.up = nn.Identity() if same else nn.Linear(width, features)

    def quantize(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Quantize projected latents `[b f w]` for training.

        Returns:
            The entries `[b f w]` with a straight-through gradient, the codes `[b f]`, the loss.
        """
        raise NotImplementedError

    def search(self, x: Tensor) -> Tensor:
        """Return the codes `[b f]` of projected latents `[b f w]`."""
        raise NotImplementedError

    def look_up(self, index: Tensor) -> Tensor:
        """Return the entries `[b f w]` of codes `[b f]`."""
        raise NotImplementedError

    def forward(self, latent: Latent, keep: Tensor | None = None) -> Quantized:
        """See `Quantizer.forward`; the one loss is `commitment`, the result of `quantize`."""
        with torch.autocast(latent.device.type, enabled=False):
            entries, index, loss = self.quantize(self.narrow(latent))
            wide = self.up(entries).transpose(1, 2).to(latent.dtype)
        return Quantized(wide, index[:, None], {"commitment": loss}, first=wide, stages=(wide,))

    @torch.no_grad()
    def encode(self, latent: Latent, codebooks: int | None = None) -> Codes:
        """See `Quantizer.encode`."""
        self.check(codebooks)
        with torch.autocast(latent.device.type, enabled=False):
            return self.search(self.narrow(latent))[:, None]

    def decode(self, codes: Codes) -> Latent:
        """See `Quantizer.decode`."""
        self.check(codes.shape[1])
        with torch.autocast(codes.device.type, enabled=False):
            return self.up(self.look_up(codes[:, 0])).transpose(1, 2)

    def narrow(self, latent: Latent) -> Tensor:
        """Project latents `[b d f]` to `[b f w]`."""
        return self.down(latent.float().transpose(1, 2))
