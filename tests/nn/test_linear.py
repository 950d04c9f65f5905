"""Linear maps by oneDNN are those of torch, and give way to torch where oneDNN cannot do it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from audiotok.nn import linear as module
from audiotok.nn import onednn
from audiotok.nn.derived import Derived
from audiotok.nn.flops import flops
from audiotok.nn.linear import Linear, linear

WIDE = pytest.mark.skipif(
    not module.WIDE or onednn.LINEAR is None, reason="no CPU with vectors of 512 bits"
)


@pytest.mark.parametrize("rows", [1, 7, 8, 100])
@pytest.mark.parametrize("bias", [True, False])
def test_it_is_the_map_of_torch(rows: int, bias: bool):
    torch.manual_seed(0)
    maps = Linear(37, 53, bias=bias)
    plain = nn.Linear(37, 53, bias=bias)
    plain.load_state_dict(maps.state_dict())
    x = torch.randn(2, rows, 37)
    with torch.no_grad():
        torch.testing.assert_close(maps(x), plain(x), rtol=0, atol=1e-5)
        mirrored = x.transpose(1, 2).contiguous().transpose(1, 2)
        assert torch.equal(maps(mirrored), maps(x))
        taps = maps.weight.T.contiguous().T
        torch.testing.assert_close(linear(x, taps, maps.bias), plain(x), rtol=0, atol=1e-5)
        assert maps(x[:, :0]).shape == (2, 0, 53)


@WIDE
def test_a_row_does_not_depend_on_how_many_there_are():
    torch.manual_seed(0)
    x, weight, bias = torch.randn(128, 96), torch.randn(200, 96), torch.randn(200)
    with torch.no_grad():
        whole = linear(x, weight, bias)
        for rows in (8, 16, 24, 48, 127):
            assert torch.equal(linear(x[:rows], weight, bias), whole[:rows]), rows


def test_gradients_and_other_types_are_torchs():
    maps = Linear(8, 8)
    x = torch.randn(32, 8, requires_grad=True)
    maps(x).sum().backward()
    assert x.grad is not None
    assert maps.weight.grad is not None
    with torch.no_grad():
        half = maps.double()(x.double())
        assert half.dtype == torch.float64
        with torch.autocast("cpu", torch.bfloat16):
            assert Linear(8, 8)(x).dtype == torch.bfloat16


def test_its_operations_are_counted():
    x, weight = torch.randn(2, 16, 8), torch.randn(24, 8)
    counted = flops(lambda: linear(x, weight))
    assert counted == flops(lambda: F.linear(x, weight)) == 2 * 2 * 16 * 8 * 24


def test_what_is_derived_follows_the_weights():
    weight, calls = nn.Parameter(torch.ones(3), requires_grad=False), []
    kept: Derived[float] = Derived()

    def total() -> float:
        return kept.of((weight,), lambda: calls.append(0) or float(weight.sum()))

    assert (total(), total(), len(calls)) == (3, 3, 1)
    weight.mul_(2)
    assert (total(), total(), len(calls)) == (6, 6, 2)
    weight.data = torch.zeros(3)
    assert (total(), total(), len(calls)) == (0, 0, 3)
    with torch.inference_mode():
        weight = torch.ones(3)
        assert total() == 3
        weight.mul_(5)
        assert total() == 15
