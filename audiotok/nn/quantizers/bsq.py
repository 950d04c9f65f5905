"""Binary spherical quantization: lookup-free quantization of directions."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from audiotok.nn.quantizers.base import Count
from audiotok.nn.quantizers.lfq import Lfq


class Bsq(Lfq):
    """Quantizer of directions in `bits` features to the corners of the cube in the unit sphere.

    An entry q is never far from its direction u: |u - q|^2 <= 2 - 2 / sqrt(bits). So the paper
    needs no commitment loss; weight 0 turns it off.

    Args:
        features: width d of the latent; linear maps are added where it is not `bits`.
        bits: bits per code.
        commitment: weight of the commitment loss, as for `Lfq`.
        entropy: weight of the entropy loss, as for `Lfq`.
        sharpness: sharpness of the distribution of codes, as for `Lfq`.
        group: number of bits whose joint distribution is computed; each bit by itself by default.

    Source: Zhao et al. 2024, arXiv:2406.07548, sections 3.1 and 3.2.
    """

    def __init__(
        self,
        features: int,
        *,
        bits: Count = 10,
        commitment: float = 0.25,
        entropy: float = 0.1,
        sharpness: float = 100.0,
        group: Count = 1,
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

    def normalised(self, x: Tensor) -> Tensor:
        """Return the direction of the features, a unit vector."""
        return F.normalize(x, dim=-1)
