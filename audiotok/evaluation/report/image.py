"""Small images as PNG in a data URL, with few colours, so that a page can hold many."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from audiotok.tokens.png import png_url

LEVELS = 32
# The stops of matplotlib's magma (public domain), dark to bright.
HEAT = ((0, 0, 4), (59, 15, 112), (140, 41, 129), (222, 73, 104), (254, 159, 109), (252, 253, 191))
# For differences: negative, zero, positive; dark at zero, so that deviations stand out.
SIGNED = ((120, 220, 255), (20, 110, 190), (18, 18, 22), (200, 90, 10), (255, 215, 120))


def palette(stops: tuple[tuple[int, int, int], ...]) -> NDArray[np.uint8]:
    """Return colours `[LEVELS 3]` evenly spaced along the stops."""
    at = np.linspace(0, len(stops) - 1, LEVELS)
    columns = [np.interp(at, range(len(stops)), channel) for channel in zip(*stops, strict=True)]
    return np.stack(columns, 1).round().astype(np.uint8)


def png(
    values: NDArray[np.floating],
    low: float,
    high: float,
    stops: tuple[tuple[int, int, int], ...] = HEAT,
) -> str:
    """Return an image of values `[rows columns]`, first row on top, as a `data:` URL.

    Args:
        values: values of the pixels.
        low: value of the first colour; lower values have it too.
        high: value of the last colour; higher values have it too.
        stops: colours between which the palette is interpolated.
    """
    scaled = (values - low) / (high - low) * LEVELS
    pixels = np.clip(np.floor(scaled), 0, LEVELS - 1).astype(np.uint8)
    return png_url(pixels, palette(stops))
