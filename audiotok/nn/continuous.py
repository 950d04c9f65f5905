"""Latents as they are, in the place of a quantizer: for codecs whose frames are continuous."""

from __future__ import annotations

from torch import Tensor

from audiotok._platform.shapes import Latent
from audiotok.nn.quantizers.base import NoTableError, Quantized, Quantizer


class Continuous(Quantizer):
    """Quantizer that keeps latents `[b d f]`: they are what its frames hold, in place of codes.

    Args:
        width: number of features d.
    """

    sizes = ()

    def __init__(self, width: int) -> None:
        super().__init__()
        self.latent_width = width

    def forward(self, latent: Latent, keep: Tensor | None = None) -> Quantized:
        """See `Quantizer.forward`; no loss."""
        return Quantized(latent, latent)

    def encode(self, latent: Latent, codebooks: int | None = None) -> Latent:
        """Return the latents in single precision."""
        return latent.float()

    def decode(self, codes: Latent) -> Latent:
        """Return the latents in single precision."""
        return codes.float()

    def table(self, codebook: int) -> Tensor:
        """Raise, as there are no codebooks."""
        raise NoTableError("latents have no codebooks, and so no table of one")
