"""Axes of matplotlib, of the extra `plot`, for whoever brings none."""

from __future__ import annotations

from typing import Any

from audiotok._platform.optional import optional_import


def new_axes(axes: Any | None) -> Any:
    """Return the given axes, or those of a new figure, which needs no display.

    Raises:
        ImportError: matplotlib is not installed.
    """
    if axes is not None:
        return axes
    pyplot = optional_import("matplotlib.pyplot", "matplotlib", extra="plot")
    return pyplot.subplots(figsize=(12, 3), layout="constrained")[1]
