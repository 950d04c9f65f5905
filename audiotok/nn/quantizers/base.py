"""What every quantizer promises: latents to codes and back, with the losses that train it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import overload

import torch
from torch import Tensor, nn

from audiotok._platform.shapes import Codes, Latent
from audiotok.tokens.tokenizer import kept


@dataclass(frozen=True)
class Quantized:
    """What a quantizer makes of a latent in training.

    Attributes:
        latent: `[b d f]`, what the codes decode to; its gradient goes straight through.
        codes: `[b k f]`, always all codebooks.
        losses: name to scalar, each already a mean.
        first: `[b d f]`, what the first codebook alone decodes to (what distillation reads).
        stages: the same of each codebook alone, made when asked for; they add up to what all
            codebooks decode to.
    """

    latent: Tensor
    codes: Tensor
    losses: dict[str, Tensor] = field(default_factory=dict)
    first: Tensor | None = None
    stages: Sequence[Tensor] = ()


class Lazy(Sequence[Tensor]):
    """`make(0)` to `make(size - 1)`, each made when asked for."""

    def __init__(self, size: int, make: Callable[[int], Tensor]) -> None:
        self._size, self._make = size, make

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> list[Tensor]: ...
    def __getitem__(self, index: int | slice) -> Tensor | list[Tensor]:
        at = range(self._size)[index]
        return self._make(at) if isinstance(at, int) else [self._make(i) for i in at]


class Quantizer(nn.Module):
    """Latents `[b d f]` to codes `[b k f]` and back.

    Attributes:
        sizes: entries in each codebook.
    """

    sizes: tuple[int, ...]

    @property
    def codebooks(self) -> int:
        """How many codes a frame has."""
        return len(self.sizes)

    def forward(self, latent: Latent, keep: Tensor | None = None) -> Quantized:
        """Quantize for training; in training mode this also updates what is not a parameter.

        Args:
            latent: `[b d f]`.
            keep: `[b]`, how many codebooks each recording's output is made of (quantizer
                dropout, Zeghidour et al. 2021, arXiv:2107.03312, section III-C); all if None.
        """
        raise NotImplementedError

    def encode(self, latent: Latent, codebooks: int | None = None) -> Codes:
        """Codes of the first `codebooks` codebooks (all if None)."""
        raise NotImplementedError

    def decode(self, codes: Codes) -> Latent:
        """The latent that the codes stand for; any prefix of the codebooks will do."""
        raise NotImplementedError

    def check(self, codebooks: int | None) -> int:
        """`codebooks`, all of them if None.

        Raises:
            ValueError: more than there are, or less than one.
        """
        return kept(codebooks, self.codebooks)


def nearest(x: Tensor, entries: Tensor, norms: Tensor | None = None) -> Tensor:
    """Index of the nearest entry by Euclidean distance: `[n d]`, `[size d]` to `[n]`.

    |x - e|^2 = |x|^2 - 2 x.e + |e|^2: one matrix product, and |x|^2 cannot change the order.
    """
    norms = entries.square().sum(1) if norms is None else norms
    return torch.addmm(norms, x, entries.T, alpha=-2).argmin(1)


def kmeans(x: Tensor, size: int, *, rounds: int = 10, seed: int = 0) -> Tensor:
    """Centres `[size d]` of points `[n d]` by Lloyd's algorithm, the same for the same seed.

    With fewer points than centres the points repeat, each copy nudged so that they can part.
    """
    random = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(x), generator=random)
    centres = x[order.repeat(-(-size // len(x)))[:size].to(x.device)].clone()
    if size > len(x):
        nudge = torch.randn(centres.shape, generator=random).to(x)
        centres[len(x) :] += 1e-3 * x.std(correction=0) * nudge[len(x) :]
    for _ in range(rounds):
        index = nearest(x, centres)
        count = torch.zeros(size, device=x.device).index_add_(0, index, torch.ones_like(x[:, 0]))
        total = torch.zeros_like(centres).index_add_(0, index, x)
        centres = torch.where(count[:, None] > 0, total / count[:, None].clamp(min=1), centres)
    return centres


class Codebook(nn.Module):
    """Entries and how one is found: what residual stages and groups of features are made of."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`[n d]` to entries `[n d]`, indices `[n]` and the loss of each frame `[n]`."""
        raise NotImplementedError

    def search(self, x: Tensor) -> Tensor:
        """`[n d]` to indices `[n]`."""
        raise NotImplementedError

    def look_up(self, index: Tensor) -> Tensor:
        """Indices of any shape to entries, features last."""
        raise NotImplementedError


class OneCode(Quantizer):
    """A quantizer of one code a frame, found in `width` features between two linear maps.

    There are no maps where the latent has that width already. A subclass sets `sizes` and writes
    `quantize`, `search` and `look_up`. As there is one codebook, `keep` changes nothing.

    Args:
        features: width d of the latent.
        width: w of what is quantized.
    """

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        same = width == features
        self.down = nn.Identity() if same else nn.Linear(features, width)
        self.up = nn.Identity() if same else nn.Linear(width, features)

    def quantize(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of `[b f w]`: what the codes stand for, with its gradient; codes `[b f]`; the loss."""
        raise NotImplementedError

    def search(self, x: Tensor) -> Tensor:
        """`[b f w]` to codes `[b f]`."""
        raise NotImplementedError

    def look_up(self, index: Tensor) -> Tensor:
        """Codes `[b f]` to what they stand for, `[b f w]`."""
        raise NotImplementedError

    def forward(self, latent: Latent, keep: Tensor | None = None) -> Quantized:
        """See `Quantizer.forward`; the one loss is `commitment`, all that the quantizer asks."""
        with torch.autocast(latent.device.type, enabled=False):
            made, index, loss = self.quantize(self.narrow(latent))
            wide = self.up(made).transpose(1, 2).to(latent.dtype)
        return Quantized(wide, index[:, None], {"commitment": loss}, first=wide, stages=(wide,))

    @torch.no_grad()
    def encode(self, latent: Latent, codebooks: int | None = None) -> Codes:
        """The code of every frame."""
        self.check(codebooks)
        with torch.autocast(latent.device.type, enabled=False):
            return self.search(self.narrow(latent))[:, None]

    def decode(self, codes: Codes) -> Latent:
        """What the codes stand for."""
        self.check(codes.shape[1])
        with torch.autocast(codes.device.type, enabled=False):
            return self.up(self.look_up(codes[:, 0])).transpose(1, 2)

    def narrow(self, latent: Latent) -> Tensor:
        """`[b d f]` to what is quantized, `[b f w]`."""
        return self.down(latent.float().transpose(1, 2))
