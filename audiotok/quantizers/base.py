"""What every quantizer promises: latents to codes and back, with the losses that train it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import overload

from torch import Tensor, nn

from audiotok.shapes import Codes, Latent


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
        if codebooks is None:
            return self.codebooks
        if not 1 <= codebooks <= self.codebooks:
            raise ValueError(f"{codebooks} codebooks asked for; there are 1 to {self.codebooks}")
        return codebooks
