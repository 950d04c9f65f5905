"""The contracts find faults, with hypothesis and without, and need no test program."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from sizes import SMALL, ready

from audiotok.codecs.models.speech import Speech
from audiotok.nn.layers.base import Layer, State
from audiotok.testing import assert_lengths_exact, assert_refuses, assert_streams
from audiotok.testing.checks import Sizes, for_all


class Sum(Layer):
    """Sums of all inputs so far; without state they begin anew at every step."""

    def __init__(self, *, forgets: bool) -> None:
        super().__init__()
        self.forgets = forgets

    def start(self, batch: int) -> State:
        return torch.zeros(batch, 1, 1)

    def step(self, x: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        y = torch.cat([state, x], 2).cumsum(2)
        return y[:, :, 1:], state if self.forgets else y[:, :, -1:]


def run(hypothesis: bool, check: Callable[[], None]) -> None:
    """Run a check with hypothesis, or as if it were not installed."""
    with pytest.MonkeyPatch.context() as patch:
        if not hypothesis:
            patch.setitem(sys.modules, "hypothesis", None)
        check()


@pytest.mark.parametrize("hypothesis", [True, False])
def test_sizes_are_of_the_kind_asked_for(hypothesis: bool):
    seen: list[list[int]] = []

    def check(sizes: list[int], last: list[int]) -> None:
        seen.append(sizes)
        assert 1 <= len(sizes) <= 12
        assert len(last) <= 1
        assert all(0 <= size <= 99 for size in sizes + last)

    kinds = Sizes(most=99, longest=12, shortest=1, common=(0, 1)), Sizes(most=9, longest=1)
    run(hypothesis, lambda: for_all(check, *kinds, examples=50))
    assert len(seen) >= 40
    every = [size for sizes in seen for size in sizes]
    assert {0, 1} <= {*every}
    assert max(every) > 9


@pytest.mark.parametrize("hypothesis", [True, False])
def test_a_layer_that_forgets_is_found(hypothesis: bool):
    x = torch.randn(3, 1, 40)
    run(hypothesis, lambda: assert_streams(Sum(forgets=False), x))
    with pytest.raises(AssertionError, match="off by"):
        run(hypothesis, lambda: assert_streams(Sum(forgets=True), x))


def test_a_codec_that_loses_samples_is_found():
    codec: Any = ready(Speech(SMALL))
    waves = codec._waves
    codec._waves = lambda codes, group: [wave[:, :-1] for wave in waves(codes, group)]
    with pytest.raises(AssertionError, match=r"samples, channels and rate are \(319, 1, 16000\)"):
        assert_lengths_exact(codec, [320])


def test_refusals():
    assert_refuses(lambda: int("x"), "invalid literal")
    for call, match in ((lambda: int("x"), "another"), (lambda: int("1"), "invalid")):
        with pytest.raises(AssertionError, match="expected is"):
            assert_refuses(call, match)


def test_it_needs_no_test_program():
    code = "import audiotok.testing, sys; print({'pytest', 'hypothesis'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
