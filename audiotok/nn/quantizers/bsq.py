"""Binary spherical quantization: lookup-free quantization of directions."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from audiotok.nn.quantizers.lfq import Lfq


class Bsq(Lfq):
    """`bits` features on the unit sphere, and codes at the corners of the cube inside it.

    A code q is never far from its direction u: |u - q|^2 <= 2 - 2 / sqrt(bits). So the paper needs
    no commitment; weight 0 leaves it out.

    Args:
        features: width d of the latent; `bits`, or a linear map goes between.
        bits: of a code.
        commitment, entropy, sharpness, group: as of `Lfq`; bit by bit unless `group` says other.

    Source: Zhao et al. 2024, arXiv:2406.07548, sections 3.1 and 3.2.
    """

    def __init__(
        self,
        features: int,
        *,
        bits: int = 10,
        commitment: float = 0.25,
        entropy: float = 0.1,
        sharpness: float = 100.0,
        group: int = 1,
    ) -> None:
        super().__init__(
            features,
            bits=bits,
            commitment=commitment,
            entropy=entropy,
            sharpness=sharpness,
            group=group,
        )
        self.length = bits**-0.5

    def place(self, x: Tensor) -> Tensor:
        """The direction of the features."""
        return F.normalize(x, dim=-1)
