"""An LSTM by oneDNN, step by step, is that of torch, and the same to the bit however it is cut."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from audiotok.nn import onednn
from audiotok.nn.layers import lstm as module
from audiotok.nn.layers.lstm import FEW, Lstm, run

pytestmark = pytest.mark.skipif(onednn.BINARY is None, reason="torch without oneDNN")


@torch.no_grad()
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("steps", [1, 7, FEW])
@pytest.mark.parametrize("batch", [1, 3])
def test_it_is_that_of_torch(bidirectional: bool, bias: bool, steps: int, batch: int):
    torch.manual_seed(0)
    lstm = nn.LSTM(48, 48, 2, bias=bias, batch_first=True, bidirectional=bidirectional)
    x = torch.randn(batch, steps, 48)
    hidden, cell = torch.randn(2, 2 * (1 + bidirectional), batch, 48).unbind()
    before = cell.clone()
    y, (last, end) = run(lstm, x, (hidden, cell))
    theirs, (their_last, their_end) = lstm(x, (hidden, cell))
    torch.testing.assert_close(y, theirs, rtol=0, atol=1e-6)
    torch.testing.assert_close(last, their_last, rtol=0, atol=1e-6)
    torch.testing.assert_close(end, their_end, rtol=0, atol=1e-6)
    assert torch.equal(cell, before)


@torch.no_grad()
@pytest.mark.parametrize("sizes", [(1,), (2, 1, 5), (16, 3)], ids=str)
def test_cuts_and_companions_change_no_bit(sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "WIDE", 0)
    torch.manual_seed(0)
    layer, x = Lstm(64), torch.randn(2, 64, 100)
    whole = layer(x)
    state, outputs, begin = layer.start(2), [], 0
    while begin < x.shape[2]:
        size = sizes[len(outputs) % len(sizes)]
        y, state = layer.step(x[:, :, begin : begin + size], state)
        outputs.append(y)
        begin += size
    assert torch.equal(torch.cat(outputs, 2), whole)
    assert torch.equal(layer(x[:1]), whole[:1])


def test_gradients_are_torchs():
    layer = Lstm(8)
    y = layer(torch.randn(1, 8, 4))
    y.sum().backward()
    assert layer.lstm.weight_hh_l0.grad is not None


@torch.no_grad()
def test_it_follows_its_weights():
    torch.manual_seed(0)
    lstm, x = nn.LSTM(48, 48, batch_first=True), torch.randn(1, 4, 48)
    begin = torch.zeros(1, 1, 48)
    run(lstm, x, (begin, begin))
    for value in lstm.parameters():
        value.mul_(3)
    torch.testing.assert_close(run(lstm, x, (begin, begin))[0], lstm(x)[0], rtol=0, atol=1e-6)
