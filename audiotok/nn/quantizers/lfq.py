"""Lookup-free quantization: a code is the signs of the features, an entry a corner of a cube."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from audiotok._platform.errors import InputError
from audiotok.nn.quantizers.base import Count, OneCode


def code_entropy(logits: Tensor) -> Tensor:
    """Return the mean entropy of the code of a frame, in nats.

    This is the exact entropy over all 2^bits codes, without enumerating them: entropies of
    independent bits add up.

    Args:
        logits: log odds of the bits `[n bits]`.
    """
    size = logits.abs()
    return (F.softplus(-size) + size * torch.sigmoid(-size)).sum(1).mean()


def usage_entropy(logits: Tensor, group: int) -> Tensor:
    """Return the entropy of the mean distribution of codes over all frames, in nats.

    With all bits of a code in one group this is the entropy itself. With smaller groups it is the
    sum of the entropies of the groups, an upper bound, and memory grows with 2^group instead of
    2^bits (arXiv:2406.07548, equation 8).

    Args:
        logits: log odds of the bits `[n bits]`.
        group: number of bits whose joint distribution is computed.
    """
    total = logits.new_zeros(())
    for bits in torch.sigmoid(logits).split(group, 1):
        joint = bits.new_ones(len(bits), 1)
        for bit in bits.unbind(1):
            joint = torch.cat([joint * (1 - bit)[:, None], joint * bit[:, None]], 1)
        # The gradient of entr is infinite at zero.
        total = total + torch.special.entr(joint.mean(0).clamp(min=1e-12)).sum()
    return total


class Lfq(OneCode):
    """Quantizer to the signs of `bits` features: codes 0 to 2^bits - 1, the first bit the lowest.

    Args:
        features: width d of the latent; linear maps are added where it is not `bits`.
        bits: bits per code.
        commitment: weight of the mean square distance of features from their signs.
        entropy: weight of the entropy loss, which makes codes certain and all of them used: the
            entropy of the code of each frame minus that of the mean distribution.
        sharpness: sharpness s of that distribution: p(code) ~ exp(2 s features . code).
        group: number of bits whose joint distribution is computed (`usage_entropy`).

    Source: Yu et al. 2023 (MAGVIT-v2), arXiv:2310.05737, section 3.1.

    Raises:
        ValueError: `bits` is not 1 to 62, so that codes fit an integer.
    """

    def __init__(
        self,
        features: int,
        *,
        bits: Count = 10,
        commitment: float = 0.25,
        entropy: float = 0.1,
        sharpness: float = 100.0,
        group: Count = 10,
    ) -> None:
        if not 1 <= bits <= 62:
            raise InputError(f"codes of {bits} bits: give 1 to 62")
        super().__init__(features, bits)
        self.sizes = (2**bits,)
        self.bits = bits
        self.commitment = commitment
        self.entropy = entropy
        self.sharpness = sharpness
        self.group = group
        self.length = 1.0  # absolute value of each feature of an entry

    def normalised(self, x: Tensor) -> Tensor:
        """Return the features `[b f w]` in the space of the entries."""
        return x

    def quantize(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `OneCode.quantize`."""
        x = self.normalised(x)
        index = self._index(x)
        code = self.look_up(index)
        # The log odds of a bit are the difference of 2 sharpness x between its two signs.
        logits = (4 * self.sharpness * self.length * x).flatten(0, 1)
        loss = self.commitment * (x - code).square().mean()
        loss = loss + self.entropy * (code_entropy(logits) - usage_entropy(logits, self.group))
        return x + (code - x).detach(), index, loss

    def search(self, x: Tensor) -> Tensor:
        """See `OneCode.search`."""
        return self._index(self.normalised(x))

    def look_up(self, index: Tensor) -> Tensor:
        """See `OneCode.look_up`."""
        bits = index[..., None] >> torch.arange(self.bits, device=index.device) & 1
        return self.length * (2 * bits - 1).float()

    def _index(self, x: Tensor) -> Tensor:
        return ((x > 0).long() << torch.arange(self.bits, device=x.device)).sum(-1)
