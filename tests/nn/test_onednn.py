"""Weights kept in the order of oneDNN give the same bits, and follow the weights of the module."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from audiotok.nn import onednn
from audiotok.nn.flops import flops
from audiotok.nn.layers.conv import convolved
from audiotok.nn.linear import WIDE, Linear

pytestmark = pytest.mark.skipif(onednn.CONVOLUTION is None, reason="torch without oneDNN")


def conv(*, stride: int = 1, dilation: int = 1, padding: int = 0) -> nn.Conv1d:
    torch.manual_seed(0)
    return nn.Conv1d(96, 128, 7, stride, padding, dilation)


def steps(batch: int, length: int) -> Tensor:
    return torch.randn(batch, length, 96).transpose(1, 2)


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Callable[[nn.Conv1d, Tensor], Tensor]:
    """Return what torch makes of it alone."""

    def convolve(layer: nn.Conv1d, x: Tensor) -> Tensor:
        with monkeypatch.context() as patch:
            patch.setattr(onednn, "CONVOLUTION", None)
            return convolved(layer, x)

    return convolve


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"dilation": 3}, {"padding": 3}], ids=str)
def test_a_convolution_has_the_same_bits_however_often_it_ran(
    options: dict[str, int], plain: Callable[[nn.Conv1d, Tensor], Tensor]
):
    layer = conv(**options)
    for batch, length in [
        (1, 300),
        (1, 300),
        (1, 300),
        (2, 25),
        (1, 300),
        (2, 25),
        (2, 25),
        (2, 26),
    ]:
        x = steps(batch, length)
        assert torch.equal(convolved(layer, x), plain(layer, x)), (batch, length)
    assert onednn._KEPT[layer]["weight"].key == (
        torch.Size((2, 96, 1, 25)),
        torch.get_num_threads(),
    )


@torch.no_grad()
def test_kept_weights_follow_the_modules(plain: Callable[[nn.Conv1d, Tensor], Tensor]):
    layer, x = conv(), steps(2, 25)
    for _ in range(3):
        convolved(layer, x)
    layer.weight.mul_(2)
    assert torch.equal(convolved(layer, x), plain(layer, x))
    layer.weight.data = torch.randn_like(layer.weight)
    assert torch.equal(convolved(layer, x), plain(layer, x))


@torch.no_grad()
def test_they_go_with_the_module():
    layer = conv()
    for _ in range(3):
        convolved(layer, steps(2, 25))
    gone = weakref.ref(layer), weakref.ref(onednn._KEPT[layer]["weight"].weight)
    del layer
    gc.collect()
    assert [it() for it in gone] == [None, None]


def test_nothing_is_kept_for_gradients_or_many_steps():
    layer = conv()
    for _ in range(3):
        assert convolved(layer, steps(2, 25)).requires_grad
        with torch.no_grad():
            convolved(layer, steps(2, onednn.MOST))
    assert layer not in onednn._KEPT


@torch.no_grad()
def test_operations_are_counted():
    layer, x = conv(), steps(2, 25)
    assert flops(lambda: convolved(layer, x)) == 2 * 2 * 19 * 96 * 128 * 7
    assert flops(lambda: convolved(layer, x)) == 2 * 2 * 19 * 96 * 128 * 7
    assert flops(lambda: convolved(layer, x)) == 2 * 2 * 19 * 96 * 128 * 7


@torch.no_grad()
def test_a_row_of_a_map_does_not_depend_on_how_many_there_are():
    torch.manual_seed(0)
    maps = Linear(160, 200)
    rows = torch.randn(600, 160)
    whole = maps(rows)
    torch.testing.assert_close(whole, nn.functional.linear(rows, maps.weight, maps.bias))
    for count in (2, 3, 8, 40, 511, 512) if WIDE else ():
        assert torch.equal(maps(rows[:count]), whole[:count]), count
    maps.weight.mul_(2)
    torch.testing.assert_close(
        maps(rows[:8]), nn.functional.linear(rows[:8], maps.weight, maps.bias)
    )
