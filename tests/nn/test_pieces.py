"""Chains take long steps in pieces, with the same bits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from audiotok.nn.layers import chain
from audiotok.nn.layers.chain import Chain
from audiotok.nn.layers.conv import Conv
from audiotok.nn.layers.half_snake import HalfSnake
from audiotok.nn.layers.hifigan_block import HifiganBlock
from audiotok.nn.layers.residual_unit import ResidualUnit
from audiotok.nn.layers.transposed_conv import TransposedConv

NEVER = 1 << 40


def encoder(*, causal: bool) -> Chain:
    ends: dict[str, Any] = {"causal": causal, "pad": "reflect" if causal else "zeros"}
    unit = ResidualUnit(24, kernel=7, dilation=3, activation=HalfSnake, **ends)
    down = Conv(24, 48, 10, stride=5, **ends)
    block = HifiganBlock(48, activation=HalfSnake, **ends)
    return Chain([Conv(1, 24, 7, **ends), unit, HalfSnake(24), down, block, Conv(48, 6, 3, **ends)])


def decoder(*, causal: bool) -> Chain:
    layers = [
        Conv(6, 48, 3, causal=causal),
        HalfSnake(48),
        TransposedConv(48, 24, 10, stride=5, causal=causal),
        ResidualUnit(24, kernel=7, dilation=3, activation=HalfSnake, causal=causal, shortcut=True),
        TransposedConv(24, 12, 4, stride=2, causal=causal),
        Conv(12, 1, 7, causal=causal),
    ]
    return Chain(layers)


def outputs(layer: Chain, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return those of a step and of the end."""
    middle = x.shape[2] * 2 // 3 // layer.consumes * layer.consumes
    y, state = layer.step(x[:, :, :middle], layer.start(len(x)))
    return y, layer.finish(x[:, :, middle:], state)


@torch.no_grad()
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("piece", [1 << 14, 1 << 17])
def test_pieces_change_no_bit(monkeypatch: pytest.MonkeyPatch, causal: bool, piece: int):
    torch.manual_seed(0)
    for layer, x in (
        (encoder(causal=causal), torch.randn(2, 1, 20_003)),
        (decoder(causal=causal), torch.randn(2, 6, 2003)),
    ):
        monkeypatch.setattr(chain, "PIECE", NEVER)
        whole = outputs(layer, x)
        monkeypatch.setattr(chain, "PIECE", piece)
        for y, expected in zip(outputs(layer, x), whole, strict=True):
            assert torch.equal(y, expected)


@torch.no_grad()
def test_layers_take_no_more_than_a_piece(monkeypatch: pytest.MonkeyPatch):
    sizes: dict[str, list[int]] = {}

    def note(layer: Conv, name: str) -> None:
        convolved = layer._convolved

        def noted(x: Tensor) -> Tensor:
            sizes.setdefault(name, []).append(x.shape[1] * (x.shape[2] - layer.left))
            return convolved(x)

        monkeypatch.setattr(layer, "_convolved", noted)

    layer = encoder(causal=True)
    for name, conv in layer.named_modules():
        if isinstance(conv, Conv):
            note(conv, name)
    monkeypatch.setattr(chain, "PIECE", 1 << 14)
    x = torch.randn(1, 1, 20_000)
    state = layer.start(1)
    layer.step(x, state)
    first, *others = sizes.values()
    assert first == [16_380, 3620]  # as many whole strides as fit
    assert all(max(pieces) <= 1 << 14 and len(pieces) > 2 for pieces in others)
    assert {sum(pieces) for pieces in others} == {24 * 20_000, 48 * 4000}  # and nothing is lost
    with torch.enable_grad():
        sizes.clear()
        layer.step(x, state)
        assert all(len(unit) == 1 for unit in sizes.values())
