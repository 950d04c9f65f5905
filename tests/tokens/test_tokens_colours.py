"""Colours of codes: close where entries are close, the same every time; and their PNG images."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from audiotok.tokens.colours import code_colours, coloured, similarity_colours
from audiotok.tokens.png import png, png_url


def clusters(width: int, count: int = 5, each: int = 40) -> NDArray[np.float64]:
    """Entries around `count` centres, centre after centre."""
    random = np.random.default_rng(width)
    centres = random.standard_normal((count, 1, width))
    return (centres + 0.02 * random.standard_normal((count, each, width))).reshape(-1, width)


def distances(points: NDArray[np.generic]) -> NDArray[np.float64]:
    values = points.astype(float)
    return np.sqrt(np.square(values[:, None] - values[None]).sum(2))


@pytest.mark.parametrize("width", [2, 3, 8, 200])
def test_similar_entries_have_similar_colours(width: int):
    colours = similarity_colours([clusters(width)])[0]
    assert colours.shape == (200, 3)
    apart = distances(colours)
    within = np.repeat(np.arange(5), 40)[:, None] == np.repeat(np.arange(5), 40)
    assert apart[within].mean() < 0.6 * apart[~within].mean()


def test_tensors_have_the_colours_of_arrays():
    torch = pytest.importorskip("torch")
    entries = clusters(8)
    tensor = torch.tensor(entries, requires_grad=True)
    (one,), (other,) = similarity_colours([entries]), similarity_colours([tensor])
    assert np.array_equal(one, other)


def test_colours_follow_the_first_principal_components():
    """Against numpy's singular vectors: the order along each is the order of an OKLab axis."""
    random = np.random.default_rng(0)
    entries = random.standard_normal((300, 40)) * 0.8 ** np.arange(40)
    colours = similarity_colours([entries])[0].astype(float)
    centred = entries - entries.mean(0)
    exact = np.linalg.svd(centred)[2][:3]
    green_red = colours[:, 0] - colours[:, 1]
    blue_yellow = colours[:, :2].mean(1) - colours[:, 2]
    for axis, seen in zip(exact, (green_red, blue_yellow, colours.mean(1)), strict=True):
        assert abs(np.corrcoef(centred @ axis, seen)[0, 1]) > 0.7


def test_colours_are_the_same_every_time_and_at_any_offset():
    one, other = clusters(8), clusters(9)
    first = similarity_colours([one, other])
    again = similarity_colours([one + 3.5, other])
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("shape", [(1, 4), (2, 1), (5, 2), (4, 600)])
def test_any_codebook_has_colours(shape: tuple[int, int]):
    entries = np.random.default_rng(0).standard_normal(shape)
    assert similarity_colours([entries])[0].shape == (shape[0], 3)
    same = similarity_colours([np.ones(shape)])[0]
    assert len(np.unique(same, axis=0)) == 1  # entries that agree look alike


def test_neighbouring_numbers_are_told_apart_without_embeddings():
    colours = code_colours(1024)
    steps = np.sqrt(np.square(np.diff(colours.astype(float), axis=0)).sum(1))
    assert steps.min() > 60
    assert len(np.unique(colours, axis=0)) > 900


def test_codes_become_pixels_codebook_by_codebook():
    red, blue = np.array([[255, 0, 0], [250, 0, 0]], np.uint8), np.full((3, 3), 9, np.uint8)
    codes = np.array([[0, 1, 2], [0, 2, 1], [1, 1, 0], [0, 0, 0]])  # two streams
    image = coloured(codes, [red, blue])
    assert image[0, :, 0].tolist() == [
        255,
        250,
        255,
    ]  # of two colours, the third code's is the first
    assert (image[1::2] == 9).all()
    assert image[2, :, 0].tolist() == [250, 250, 255]
    assert (coloured(codes, [red])[3] == red[0]).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 9), st.integers(1, 30), st.booleans())
def test_a_png_is_read_as_it_was_written(height: int, width: int, indexed: bool):
    image = pytest.importorskip("matplotlib.image")
    random = np.random.default_rng(height)
    palette = random.integers(0, 256, (7, 3), np.uint8)
    pixels = random.integers(0, 7, (height, width) if indexed else (height, width, 3), np.uint8)
    url = png_url(pixels, palette if indexed else None)
    data = base64.b64decode(url.removeprefix("data:image/png;base64,"))
    assert data == png(pixels, palette if indexed else None)
    read = (255 * image.imread(io.BytesIO(data))[..., :3]).round().astype(np.uint8)
    assert np.array_equal(read, palette[pixels] if indexed else pixels)
