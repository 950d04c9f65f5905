"""Decoding in 8-bit integers: another sound by a little, the same codes, half of the time."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from audiotok.codecs.models.base import Codec
from audiotok.nn.derived import Derived
from audiotok.nn.flops import flops
from audiotok.nn.int8 import Int8Error, check_int8
from audiotok.nn.linear import Linear

SHARE = 0.5  # least share of a decoder's multiplications in linear maps: others stay floats


def decode_in_int8(codec: Codec) -> Codec:
    """Compute the linear maps of a codec's decoder in 8-bit integers from now on, and return it.

    Its parameters stay as they are, and so do its fingerprints and all codes. With gradients, as
    in training, it computes in float32 as before.

    Raises:
        Int8Error: the decoder is mostly made of other things, the codec is not on a CPU, or this
            CPU is no faster with integers.
    """
    if codec.device.type != "cpu":
        raise Int8Error(f"{codec.name} on {codec.device}: 8-bit integers run on the CPU")
    decoder = getattr(codec, "decoder", None)
    maps = [] if decoder is None else [m for m in decoder.modules() if isinstance(m, Linear)]
    share = _share(codec, maps)
    if share < SHARE:
        raise Int8Error(
            f"8-bit integers gain little for {codec.name}: {share:.0%} of its decoder's "
            "multiplications are in linear maps, and all others stay floats: use float32"
        )
    check_int8()
    for one in maps:
        one.int8 = Derived()
    codec.precision = "int8"
    return codec


@torch.no_grad()
def _share(codec: Codec, maps: Sequence[Linear]) -> float:
    """Return the share of a decoder's multiplications that are in linear maps."""
    if not maps:
        return 0.0
    mine: list[int] = []
    hooks = [
        one.register_forward_hook(lambda one, _, y: mine.append(2 * y.numel() * one.in_features))
        for one in maps
    ]
    latent = codec.quantizer.decode(torch.zeros(1, codec.codebooks, 16, dtype=torch.int64))
    total = flops(lambda: codec.waves(latent))
    for hook in hooks:
        hook.remove()
    return sum(mine) / total
