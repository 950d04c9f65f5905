"""Attention near the beginning of a signal leaves out keys that are none's, and says the same."""

from __future__ import annotations

import pytest
import torch

from audiotok.nn.layers import attention as module
from audiotok.nn.layers.attention import Attention


@torch.no_grad()
@pytest.mark.parametrize("sizes", [(5, 3, 40), (48,), (30, 18)], ids=str)
def test_keys_before_the_signal_count_for_nothing(
    sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
):
    torch.manual_seed(0)
    layer, x = Attention(32, heads=2, window=20), torch.randn(2, 32, sum(sizes))

    def run() -> torch.Tensor:
        state, outputs = layer.start(2), []
        for piece in x.split(sizes, 2):
            y, state = layer.step(piece, state)
            outputs.append(y)
        return torch.cat(outputs, 2)

    short = run()
    with monkeypatch.context() as patch:
        patch.setattr(module, "computes", lambda *_: False)
        whole = run()
    torch.testing.assert_close(short, whole, rtol=0, atol=1e-6)


@torch.no_grad()
def test_signals_of_several_ages_go_together():
    torch.manual_seed(0)
    layer, x = Attention(32, heads=2, window=20), torch.randn(2, 32, 30)
    _, old = layer.step(x[:1, :, :12], layer.start(1))
    both = tuple(torch.cat(parts) for parts in zip(old, layer.start(1), strict=True))
    y, _ = layer.step(x[:, :, 12:18], both)
    alone = [layer.step(x[:1, :, 12:18], old)[0], layer.step(x[1:, :, 12:18], layer.start(1))[0]]
    torch.testing.assert_close(y, torch.cat(alone), rtol=0, atol=1e-6)
