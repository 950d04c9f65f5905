"""Maps without gradients by oneDNN on a CPU, with weights kept in the order that it reads.

torch hands oneDNN the weights as they are, which orders them anew in every call: as much work as
some 80 steps of the signal are, and most of it where a stream or a batch of streams takes a few
steps at a time. The results are the same to the bit, and weights that take few steps at a time are
in memory twice.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from audiotok.nn.derived import Derived

CONVOLUTION = getattr(torch.ops.mkldnn, "_convolution_pointwise", None)  # None: without oneDNN
LINEAR = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
BINARY = LINEAR and LINEAR.binary  # which adds another tensor, too
MOST = 512  # steps of a call whose weights are kept ordered; with more, a twentieth is gained
LEAST = 1 << 14  # numbers in such weights


class _Ordered(NamedTuple):
    """Weights, and what the order was chosen for."""

    key: Hashable
    weight: Derived[Tensor]


_LAST: WeakKeyDictionary[nn.Module, Hashable] = WeakKeyDictionary()  # of its last call
_KEPT: WeakKeyDictionary[nn.Module, dict[str, _Ordered]] = WeakKeyDictionary()  # by parameter


def computes(x: Tensor, weight: Tensor) -> bool:
    """Return whether oneDNN can compute a map of `x` here."""
    return (
        not torch.is_grad_enabled()
        and type(x) is Tensor  # not one of a program that is being traced
        and not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and torch.backends.mkldnn.enabled
        and not torch.is_autocast_enabled("cpu")
    )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, module: nn.Module | None) -> Tensor:
    """Return `x @ weight.T + bias`; a module's weights are kept ordered.

    Args:
        x: `[... d]`, of which `computes` is true.
        weight: `[e d]`.
        bias: `[e]`; none if None.
        module: whose `weight` it is; None if it is none's.
    """
    assert LINEAR is not None
    rows = x.numel() // x.shape[-1]
    if module is not None and rows < MOST and _worth_it(module, weight):
        weight = ordered(module, "weight", weight, rows)
    elif not weight.T.is_contiguous():
        weight = weight.contiguous()  # it takes other layouts too, and a thousand times as long
    return LINEAR(x.contiguous(), weight, bias, "none", [], "")


def ordered(module: nn.Module, name: str, weight: Tensor, rows: int = MOST) -> Tensor:
    """Return the weight `[e d]` of a map in the order of oneDNN, kept until it changes.

    Args:
        module: whose parameter it is.
        name: of the parameter.
        weight: the parameter, or a view of it.
        rows: about as many will be mapped at once.
    """
    kept = _KEPT.setdefault(module, {})
    if name not in kept:
        kept[name] = _Ordered(None, Derived())
    order = torch.ops.mkldnn._reorder_linear_weight
    given = cast("Tensor", getattr(module, name))
    return kept[name].weight.of((given,), lambda: order(weight.contiguous(), rows))


def _worth_it(module: nn.Module, weight: Tensor) -> bool:
    """Return whether a module's weights are worth keeping, and count their changes."""
    return weight.numel() >= LEAST and not cast("Tensor", module.weight).is_inference()


def convolution(
    conv: nn.Conv1d,
    image: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor | None:
    """Return a convolution of an image, or None where nothing is gained.

    Args:
        conv: whose weights they are.
        image: `[b d 1 t]`, its features contiguous in memory.
        weight: `[e d 1 taps]`, in the same way.
        stride: of rows and columns.
        padding: likewise.
        dilation: likewise.
    """
    if (
        CONVOLUTION is None
        or conv.groups > 1
        or image.numel() // stride[1] >= MOST * image.shape[1]
        or not computes(image, weight)
        or not _worth_it(conv, weight)
    ):
        return None
    shapes = [*padding], [*stride], [*dilation], conv.groups
    # The order differs between lengths, and one for another length takes a hundred times as long:
    # it is chosen anew once two calls in turn had another length.
    key, kept = (image.shape, torch.get_num_threads()), _KEPT.get(conv, {}).get("weight")
    if (kept is None or kept.key != key) and _LAST.get(conv) == key:
        kept = _Ordered(key, Derived())
        _KEPT[conv] = {"weight": kept}
    _LAST[conv] = key
    if kept is not None and kept.key == key:
        order = torch.ops.aten.mkldnn_reorder_conv2d_weight
        weight = kept.weight.of(
            (conv.weight,), lambda: order(weight.to_mkldnn(), *shapes, [*image.shape])
        )
    return CONVOLUTION(image, weight, conv.bias, *shapes, "none", [], "")
