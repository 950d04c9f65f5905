"""Colours of codes: entries that are close in a codebook's embedding space look alike.

The first three principal components of a codebook's entries become the axes of OKLab, a colour
space in which equal distances look about equal (https://bottosson.github.io/posts/oklab/). Each
component is replaced by its rank, so that all colours are used. Colours of different codebooks
cannot be compared. Without embeddings, colours only tell codes apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

BY_SIMILARITY = "similar entries have similar colours"
BY_CODE = "a colour for each code; that two are close means nothing"
CODES = 4096  # colours without embeddings; codes past them begin again
CHROMA = 0.15  # of OKLab's axes a and b
LIGHTNESS = (0.66, 0.2)  # centre and half width
GOLDEN = (5**0.5 - 1) / 2
SPARE, ROUNDS = 5, 20  # vectors beside three, and iterations
EXACT = 6  # digits of a component; entries that agree in them count as equal


def similarity_colours(embeddings: Iterable[Any]) -> list[NDArray[np.uint8]]:
    """Return an RGB colour for each entry of each codebook, `[entries 3]`.

    Args:
        embeddings: entries of each codebook, `[entries d]`; an offset common to a codebook's
            entries changes nothing.
    """
    return [_rgb(_axes(_array(entries))) for entries in embeddings]


def code_colours(codes: int = CODES) -> NDArray[np.uint8]:
    """Return an RGB colour for each code number, `[codes 3]`, far from those of its neighbours."""
    number = np.arange(codes)
    angle = 2 * np.pi * number * GOLDEN
    return _rgb(
        np.stack([np.cos(angle), np.sin(angle), number % 3 - 1.0]).astype(np.float64) * 0.85
    )


def coloured(codes: np.ndarray, tables: Sequence[np.ndarray]) -> NDArray[np.uint8]:
    """Return codes as an image `[rows frames 3]`.

    Args:
        codes: `[rows frames]`, codebook by codebook, and stream by stream.
        tables: colours of each codebook of a stream; those of a table with fewer colours than
            codes are used again from its start.
    """
    image = np.empty((*codes.shape, 3), np.uint8)
    for i, row in enumerate(codes):
        table = tables[i % len(tables)]
        image[i] = table[row % len(table)]
    return image


def _array(entries: Any) -> NDArray[np.float64]:
    """Return an array or a tensor, on whatever device, as an array."""
    entries = entries.detach().cpu() if hasattr(entries, "detach") else entries
    return np.asarray(entries, np.float64)


def _axes(entries: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return three coordinates `[3 entries]` from -1 to 1 of entries `[entries d]`."""
    centred = entries - entries.mean(0)
    axes = _components(centred)
    # An axis has no direction of its own: its largest part is positive.
    largest = np.abs(axes).argmax(0)
    axes = axes * np.sign(axes[largest, np.arange(axes.shape[1])])
    scale = max(float(np.abs(centred).max(initial=0.0)), 1e-30)
    ranks = [_ranks(component.round(EXACT)) for component in (centred @ axes).T / scale]
    none = np.zeros(len(entries))  # of entries with fewer dimensions than three
    return np.stack([*ranks, none, none, none][:3])


def _components(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the first three principal components `[d 3]` of centred points `[n d]`.

    By orthogonal iteration with a few more vectors than are asked for (Golub and Van Loan, Matrix
    Computations, section 8.2.4): all eigenvectors of a codebook of DAC take half a second.
    """
    width = points.shape[1]
    start = np.random.default_rng(0).standard_normal((width, min(width, SPARE + 3)))
    basis = np.linalg.qr(start)[0]
    for _ in range(ROUNDS):
        basis = np.linalg.qr(points.T @ (points @ basis))[0]
    projected = points @ basis
    _, turn = np.linalg.eigh(projected.T @ projected)  # in ascending order
    return basis @ turn[:, ::-1][:, :3]


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ranks from -1 to 1, the mean rank for equal values."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts + 1) / 2
    return 2 * middle[inverse] / max(1, len(values) - 1) - (len(values) > 1)


def _rgb(places: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return sRGB colours `[n 3]` of coordinates `[3 n]` from -1 to 1: OKLab's a, b, lightness."""
    a, b = CHROMA * places[:2]
    lightness = LIGHTNESS[0] + LIGHTNESS[1] * places[2]
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = np.stack(
        [
            4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
            -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
            -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
        ],
        1,
    ).clip(0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return (255 * encoded).round().astype(np.uint8)
