"""A residual layer that takes its steps in pieces gives the same bits."""

from __future__ import annotations

import pytest
import torch

from audiotok.nn.layers.half_snake import HalfSnake
from audiotok.nn.layers.hifigan_block import MOST, HifiganBlock
from audiotok.nn.layers.residual_unit import ResidualUnit


@torch.no_grad()
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("shortcut", [True, False])
def test_pieces_change_no_bit(causal: bool, shortcut: bool):
    torch.manual_seed(0)
    unit = ResidualUnit(
        24, kernel=7, dilation=3, activation=HalfSnake, causal=causal, shortcut=shortcut
    )
    x = torch.randn(2, 24, 30_000)
    whole, state = unit.step(x[:, :, :20_000], unit.start(2))
    end = unit.finish(x[:, :, 20_000:], state)
    unit.most = 2 * 24 * 3000
    pieces, state = unit.step(x[:, :, :20_000], unit.start(2))
    assert torch.equal(pieces, whole)
    assert torch.equal(unit.finish(x[:, :, 20_000:], state), end)


@torch.no_grad()
def test_units_of_hifigan_take_pieces(monkeypatch: pytest.MonkeyPatch):
    sizes: list[int] = []
    step = ResidualUnit._step

    def counted(self: ResidualUnit, x: torch.Tensor, state: object, out: object = None) -> object:
        sizes.append(x.numel())
        return step(self, x, state, out)

    monkeypatch.setattr(ResidualUnit, "_step", counted)
    block = HifiganBlock(24, activation=HalfSnake)
    block.step(torch.randn(1, 24, MOST // 8), block.start(1))
    assert max(sizes) <= MOST
    with torch.enable_grad():
        sizes.clear()
        block.step(torch.randn(1, 24, MOST // 8), block.start(1))
        assert sizes == [3 * MOST] * 9
