"""What every quantizer promises: latents to codes and back, with the losses that train it."""

from __future__ import annotations

from dataclasses import dataclass, field

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
    """

    latent: Tensor
    codes: Tensor
    losses: dict[str, Tensor] = field(default_factory=dict)
    first: Tensor | None = None


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
