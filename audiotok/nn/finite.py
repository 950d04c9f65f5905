"""Checks that weights are finite: one NaN would make all codes 0, or silence, without a word.

check_finite(weights, path)     # 10 million floats take about a millisecond
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor


class NotFiniteError(ValueError):
    """Weights that hold NaN or infinity; the message names the first such tensor."""


def check_finite(weights: Any, where: object, *, names: Mapping[str, str] | None = None) -> None:
    """Raise unless all tensors hold finite numbers only.

    Args:
        weights: tensors by name, or mappings and lists of such, as in a training checkpoint.
        where: the file they are from, for the message.
        names: what the file calls a tensor, where that is not its name in `weights`.

    Raises:
        NotFiniteError: one does not.
    """
    found = not_finite(weights)
    if found:
        name, said = found
        raise NotFiniteError(
            f"{where}: tensor {(names or {}).get(name, name)!r} holds {said}: damaged, or of a "
            "training that diverged; take another or an earlier checkpoint"
        )


def not_finite(weights: Any) -> tuple[str, str] | None:
    """The first tensor that holds NaN or infinity, with how many of its values do; else None."""
    for name, tensor in _tensors(weights, ""):
        # A sum is finite, or overflows, or says that a part is not; it is 40 times as fast as
        # asking each part.
        if not tensor.is_floating_point() or tensor.float().sum().isfinite():
            continue
        bad = int((~tensor.isfinite()).sum())
        if bad:
            nan = int(tensor.isnan().sum())
            what = " or ".join(("NaN",) * bool(nan) + ("infinity",) * (bad > nan))
            return name, f"{what} ({bad} of {tensor.numel()} values)"
    return None


def _tensors(weights: Any, above: str) -> Iterator[tuple[str, Tensor]]:
    """The tensors in nested mappings and lists, with their dotted names."""
    if isinstance(weights, Tensor):
        yield above, weights
        return
    inside: Iterator[tuple[Any, Any]] = iter(())
    if isinstance(weights, Mapping):
        inside = iter(weights.items())
    elif isinstance(weights, Sequence) and not isinstance(weights, str | bytes):
        inside = iter(enumerate(weights))
    for key, value in inside:
        yield from _tensors(value, f"{above}.{key}" if above else str(key))
