"""Checks that weights are finite: a single NaN would make all codes 0, or silence, unnoticed.

check_finite(weights, path)     # 10 million floats take about a millisecond
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from audiotok._platform.errors import Error


class NotFiniteError(Error, ValueError):
    """Error for weights that hold NaN or infinity; the message names the first such tensor."""


def check_finite(weights: Any, where: object, *, names: Mapping[str, str] | None = None) -> None:
    """Raise unless all tensors hold finite numbers only.

    Args:
        weights: tensors by name, or nested mappings and lists of them, as in a training checkpoint.
        where: the file that the weights are from, for the message.
        names: name of a tensor in that file, where it differs from the name in `weights`.

    Raises:
        NotFiniteError: a tensor holds NaN or infinity.
    """
    defect = not_finite(weights)
    if defect:
        name, values = defect
        raise NotFiniteError(
            f"{where}: tensor {(names or {}).get(name, name)!r} holds {values}: damaged, or of a "
            "training that diverged; take another or an earlier checkpoint"
        )


def not_finite(weights: Any) -> tuple[str, str] | None:
    """Return the first tensor that holds NaN or infinity, or None.

    Returns:
        The dotted name of the tensor, and a text that counts the values that are not finite.
    """
    for name, tensor in _tensors(weights, ""):
        # A finite sum proves that all values are finite, and is 40 times as fast as testing each
        # value; a sum that overflows leads to the slow test.
        if not tensor.is_floating_point() or tensor.float().sum().isfinite():
            continue
        bad = int((~tensor.isfinite()).sum())
        if bad:
            nan = int(tensor.isnan().sum())
            what = " or ".join(("NaN",) * bool(nan) + ("infinity",) * (bad > nan))
            return name, f"{what} ({bad} of {tensor.numel()} values)"
    return None


def _tensors(weights: Any, above: str) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors in nested mappings and lists, with their dotted names."""
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
