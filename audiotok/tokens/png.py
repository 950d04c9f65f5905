"""PNG images without a library, as bytes and in `data:` URLs."""

from __future__ import annotations

import struct
import zlib
from base64 import b64encode

import numpy as np
from numpy.typing import NDArray


def png(pixels: NDArray[np.uint8], palette: NDArray[np.uint8] | None = None) -> bytes:
    """Return an image as PNG (W3C Recommendation, third edition), 8 bits a sample, no filter.

    Args:
        pixels: `[rows columns 3]` RGB, or `[rows columns]` indices of the palette; first row on
            top.
        palette: colours `[n 3]` of indices.
    """
    height, width = pixels.shape[:2]
    lines = np.pad(pixels.reshape(height, -1), ((0, 0), (1, 0)))  # each begins with its filter: 0
    kind = 2 if palette is None else 3
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0))]
    if palette is not None:
        chunks.append((b"PLTE", palette.tobytes()))
    chunks += [(b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)


def png_url(pixels: NDArray[np.uint8], palette: NDArray[np.uint8] | None = None) -> str:
    """Return an image as a `data:` URL; see `png`."""
    return "data:image/png;base64," + b64encode(png(pixels, palette)).decode()


def _chunk(name: bytes, data: bytes) -> bytes:
    """Return a PNG chunk with its length and checksum."""
    check = zlib.crc32(name + data)
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", check)
