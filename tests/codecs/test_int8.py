"""A decoder in 8-bit integers: the same codes, exact in pieces and batches, refused in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from commandline import audiotok
from contracts import assert_live, noise
from sizes import SIZES
from sizes import made as small

from audiotok import Audio, Stream, load
from audiotok.codecs.export.folder import export
from audiotok.codecs.int8 import decode_in_int8
from audiotok.codecs.models.base import Codec
from audiotok.nn import int8 as module
from audiotok.nn.int8 import Int8Error, check_int8, int8_linear, quantized
from audiotok.nn.linear import Linear
from audiotok.runtime.exported import ExportError
from audiotok.testing import (
    assert_batches,
    assert_conversations,
    assert_cuttable,
    assert_lengths_exact,
)

ROOT = Path(__file__).parents[2]
RECORDING = ROOT / "egs" / "data" / "reading.flac"


def gains() -> bool:
    try:
        check_int8()
    except Int8Error:
        return False
    return True


FAST = pytest.mark.skipif(not gains(), reason="no CPU that multiplies 8-bit integers faster")


@pytest.fixture(scope="module", params=["shipped", "speech", "folded", "wavtokenizer"])
def codec(request: pytest.FixtureRequest) -> Codec:
    if request.param == "shipped":
        return load("speech", precision="int8")
    torch.manual_seed(0)
    name = "speech" if request.param == "folded" else request.param
    sizes = SIZES[name]
    return decode_in_int8(small(name, sizes[2] if request.param == "folded" else sizes[0]))


# -- exactness ------------------------------------------------------------------------------------


@FAST
def test_what_every_codec_promises(codec: Codec):
    size = codec.frame_size
    assert_lengths_exact(codec, [0, 1, size, 5 * size + 3])
    audio = noise(codec, 150 * size + 5)
    assert_cuttable(codec, audio, examples=6)
    assert_batches(codec, [audio, audio[: 3 * size + 1], audio[:1]])
    assert_live(codec, audio, examples=4)
    if codec.causal:
        assert_conversations(codec, audio)


@pytest.mark.parametrize("rows", [1, 2, 7, 8, 16, 17, 128])
def test_a_row_depends_on_itself_alone(rows: int):
    if not module._speed():
        pytest.skip("no exact products of 8-bit integers here")
    torch.manual_seed(0)
    x, bias = torch.randn(300, 96) * torch.logspace(-6, 3, 300)[:, None], torch.randn(203)
    weight = quantized(torch.randn(203, 96))
    whole = int8_linear(x, weight, bias)
    for first in range(0, 300 - rows, 37):
        part = slice(first, first + rows)
        assert torch.equal(int8_linear(x[part], weight, bias), whole[part])
    assert torch.equal(int8_linear(x[None, None], weight, bias)[0, 0], whole)
    mirrored = x.T.contiguous().T
    assert torch.equal(int8_linear(mirrored, weight, bias), whole)
    assert int8_linear(x[:0], weight, bias).shape == (0, 203)


def test_it_is_near_the_map_of_floats():
    torch.manual_seed(0)
    x, weight, bias = torch.randn(64, 384), torch.randn(200, 384), torch.randn(200)
    x[3], weight[5] = 0, 0
    exact = x @ weight.T + bias
    near = int8_linear(x, quantized(weight), bias)
    assert (near - exact).square().mean() < 2e-4 * exact.square().mean()
    assert torch.equal(near[3], bias)
    assert torch.equal(near[:, 5], bias[5].expand(64))
