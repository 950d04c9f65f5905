"""Decoding in 8-bit integers: another sound by a little, the same codes, half of the time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from time import thread_time

import torch

from audiotok._platform.errors import Error
from audiotok.codecs.models.base import Codec
from audiotok.nn import int8
from audiotok.nn.derived import Derived
from audiotok.nn.flops import flops
from audiotok.nn.linear import Linear, linear

SHARE = 0.5  # least share of a decoder's multiplications in linear maps: others stay floats
WORTH = 1.25  # times as fast as those in float32 that maps in integers have to be
ROUNDS = 10


class Int8Error(Error, ValueError):
    """Error for 8-bit integers where they cannot be had, or gain nothing."""


def decode_in_int8(codec: Codec) -> Codec:
    """Compute the linear maps of a codec's decoder in 8-bit integers from now on, and return it.

    Its parameters stay as they are, and so do its fingerprints and all codes. With gradients, as
    in training, it computes in float32 as before.

    Raises:
        Int8Error: the decoder is mostly made of other things, the codec is not on a CPU, or this
            CPU is no faster with integers.
        NoDecoderError: it has no decoder.
    """
    codec.check_decodes()
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


def check_int8() -> None:
    """Raise unless this CPU multiplies 8-bit integers exactly, and faster than floats.

    Raises:
        Int8Error: it does not.
    """
    speed = _speed()
    if not speed:
        raise Int8Error("torch has no exact products of 8-bit integers on this CPU: use float32")
    if speed < WORTH:
        raise Int8Error(
            f"linear maps in 8-bit integers are {speed:.2f} times as fast as in float32 on this "
            "CPU, which is not worth their error: use float32"
        )


@cache
@torch.no_grad()
def _speed() -> float:
    """Return how many times as fast as in float32 a linear map is here; 0 if it is not exact.

    It is measured on one thread, in that thread's own time, so that other work does not count.
    """
    rows, weight = torch.ones(128, 384), torch.ones(1152, 384)
    integers = int8.quantized(weight)
    runs = (lambda: linear(rows, weight), lambda: int8.int8_linear(rows, integers))
    best = [float("inf")] * len(runs)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if int8.PRODUCT is None or not (int8.is_exact(1) and int8.is_exact(64)):
            return 0.0
        for _ in range(ROUNDS):
            for i, run in enumerate(runs):
                began = thread_time()
                run()
                best[i] = min(best[i], thread_time() - began)
    except RuntimeError:  # of a torch that has it for other devices
        return 0.0
    finally:
        torch.set_num_threads(threads)
    return best[0] / best[1]


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
    none = torch.zeros(1, codec.width or codec.codebooks, 16)
    latent = codec.quantizer.decode(none if codec.width else none.long())
    total = flops(lambda: codec.waves(latent))
    for hook in hooks:
        hook.remove()
    return sum(mine) / total
