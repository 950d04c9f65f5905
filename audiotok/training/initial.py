"""Initial weights that depend on data: what every layer of an encoder gives has variance 1."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.utils import parametrize

from audiotok._platform.errors import InputError
from audiotok._platform.shapes import Wave
from audiotok.codecs.models.base import Codec
from audiotok.nn.layers.base import Layer
from audiotok.nn.layers.chain import Chain

LEAST = 1e-6  # deviation below which a feature counts as constant


@torch.no_grad()
def scale_encoder(codec: Codec, wave: Wave) -> None:
    """Scale the layers of an encoder so that each feature has mean 0 and variance 1 on a batch.

    Changed are the convolutions and linear maps of its chain, in order, each with a bias; residual
    units and recurrent layers keep their weights. Signals shrink from layer to layer of a SEANet
    with its usual weights: latents of speech deviate by 0.002, which training moves by more in a
    step, so that all frames share a few entries of a codebook.

    Source: Mishkin and Matas 2016, arXiv:1511.06422, by one pass; Salimans and Kingma 2016,
    arXiv:1602.07868, section 3, for weights that are normalised.

    Args:
        codec: the codec, in training mode.
        wave: recordings, `[b channels t]`.

    Raises:
        InputError: its encoder has no such layers.
    """
    x, scaled = wave, False
    for layer in _in_order(codec.encoder):
        y = layer(x)
        maps = [m for m in layer.modules() if isinstance(m, nn.Conv1d | nn.Linear)]
        if len(maps) == 1 and maps[0].bias is not None:
            _scale(maps[0], maps[0].bias, y)
            scaled, y = True, layer(x)
        x = y
    if not scaled:
        raise InputError(
            f"[train] init_from_data: the encoder of {codec.name} is no chain of convolutions; "
            "leave it out"
        )
    if dist.is_initialized():  # weights are the same in all processes, whatever they round
        for weight in codec.encoder.parameters():
            dist.broadcast(weight, 0)


def _in_order(layer: nn.Module) -> Iterator[Layer]:
    """Return the layers of a chain of chains."""
    if isinstance(layer, Chain):
        for each in layer:
            yield from _in_order(each)
    elif isinstance(layer, Layer):
        yield layer


def _scale(module: nn.Conv1d | nn.Linear, bias: Tensor, y: Tensor) -> None:
    """Scale a map's weights and shift its bias, by what it gave: `[b d t]`."""
    mean, deviation = y.mean((0, 2)), y.std((0, 2))
    deviation = torch.where(deviation > LEAST, deviation, 1.0)
    if parametrize.is_parametrized(module, "weight"):  # length and direction apart
        weight = module.get_parameter("parametrizations.weight.original0")
    else:
        weight = module.weight
    weight.div_(deviation.view(-1, *[1] * (weight.ndim - 1)))
    bias.copy_((bias - mean) / deviation)
