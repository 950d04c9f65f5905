"""Lookup-free quantization: a code is the signs of the features, its entries a cube's corners."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from audiotok.nn.quantizers.base import OneCode


def surprise(logits: Tensor) -> Tensor:
    """Mean entropy in nats of codes of independent bits, from the bits' log odds `[n bits]`.

    Exactly that over all 2^bits codes, of which none is looked at: entropies of independent bits
    add up.
    """
    size = logits.abs()
    return (F.softplus(-size) + size * torch.sigmoid(-size)).sum(1).mean()


def spread(logits: Tensor, group: int) -> Tensor:
    """Entropy in nats of the mean over n of the codes' distribution, `group` bits at a time.

    Over all of a code's bits it is the entropy itself; in smaller groups their sum, which is not
    less, and memory grows with 2^group instead of 2^bits (arXiv:2406.07548, equation 8).
    """
    total = logits.new_zeros(())
    for bits in torch.sigmoid(logits).split(group, 1):
        joint = bits.new_ones(len(bits), 1)
        for bit in bits.unbind(1):
            joint = torch.cat([joint * (1 - bit)[:, None], joint * bit[:, None]], 1)
        # entr has an infinite slope at zero.
        total = total + torch.special.entr(joint.mean(0).clamp(min=1e-12)).sum()
    return total


class Lfq(OneCode):
    """`bits` features of which the sign counts: codes 0 to 2^bits - 1, the first bit the lowest.

    Args:
        features: width d of the latent; `bits`, or a linear map goes between.
        bits: of a code.
        commitment: weight of the mean square distance of features from their signs.
        entropy: weight of what makes codes sure of themselves and all of them used: the entropy of
            each frame's code minus that of their mean, where features say how likely codes are.
        sharpness: of that likelihood: p(code) ~ exp(2 sharpness features . code).
        group: bits whose joint distribution is looked at (`spread`).

    Source: Yu et al. 2023 (MAGVIT-v2), arXiv:2310.05737, section 3.1.

    Raises:
        ValueError: more bits than fit an integer, or none.
    """

    def __init__(
        self,
        features: int,
        *,
        bits: int = 10,
        commitment: float = 0.25,
        entropy: float = 0.1,
        sharpness: float = 100.0,
        group: int = 10,
    ) -> None:
        if not 1 <= bits <= 62:
            raise ValueError(f"codes of {bits} bits: give 1 to 62")
        super().__init__(features, bits)
        self.sizes = (2**bits,)
        self.bits, self.commitment, self.entropy = bits, commitment, entropy
        self.sharpness, self.group = sharpness, group
        self.length = 1.0  # of a feature's sign

    def place(self, x: Tensor) -> Tensor:
        """Where features lie that are compared with codes."""
        return x

    def quantize(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `OneCode.quantize`."""
        x = self.place(x)
        index = self._index(x)
        code = self.look_up(index)
        # The log odds of a bit: twice 2 sharpness x, once for either sign.
        logits = (4 * self.sharpness * self.length * x).flatten(0, 1)
        loss = self.commitment * (x - code).square().mean()
        loss = loss + self.entropy * (surprise(logits) - spread(logits, self.group))
        return x + (code - x).detach(), index, loss

    def search(self, x: Tensor) -> Tensor:
        """See `OneCode.search`."""
        return self._index(self.place(x))

    def look_up(self, index: Tensor) -> Tensor:
        """See `OneCode.look_up`."""
        bits = index[..., None] >> torch.arange(self.bits, device=index.device) & 1
        return self.length * (2 * bits - 1).float()

    def _index(self, x: Tensor) -> Tensor:
        return ((x > 0).long() << torch.arange(self.bits, device=x.device)).sum(-1)
