"""Small images as PNG in a data URL, with few colours, so that a page can hold many."""

from __future__ import annotations

import struct
import zlib
from base64 import b64encode

import numpy as np
from numpy.typing import NDArray

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

    The format is PNG (W3C Recommendation, third edition), 8 bits a pixel, colour type 3, no filter.

    Args:
        values: values of the pixels.
        low: value of the first colour; lower values have it too.
        high: value of the last colour; higher values have it too.
        stops: colours between which the palette is interpolated.
    """
    height, width = values.shape
    scaled = (values - low) / (high - low) * LEVELS
    pixels = np.clip(np.floor(scaled), 0, LEVELS - 1).astype(np.uint8)
    lines = np.pad(pixels, ((0, 0), (1, 0)))  # each line starts with its filter type: 0, none
    body = b"".join(
        _chunk(name, data)
        for name, data in (
            (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            (b"PLTE", palette(stops).tobytes()),
            (b"IDAT", zlib.compress(lines.tobytes(), 9)),
            (b"IEND", b""),
        )
    )
    return "data:image/png;base64," + b64encode(b"\x89PNG\r\n\x1a\n" + body).decode()


def _chunk(name: bytes, data: bytes) -> bytes:
    """Return a PNG chunk with its length and checksum."""
    check = zlib.crc32(name + data)
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", check)
