"""Contracts of layers: lengths, steps of any sizes, causality, receptive field, padding.

`x [b d t]` is an input of the right width, t a multiple of `layer.consumes`, b at least 3.
`poison` replaces inputs that must not be used. NaN spreads to every output that depends on it; in
a softmax it spreads even from weight zero, so attention is tested with a large number instead.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from audiotok.nn.layers.base import Layer
from audiotok.testing.checks import Sizes, assert_close, assert_refuses, for_all

NAN = float("nan")


@torch.no_grad()
def assert_lengths(layer: Layer, x: Tensor, *, short: int = 0) -> None:
    """Assert that each `consumes` inputs give `produces` outputs, less `short` outputs in all.

    A causal layer must accept a step of no inputs, and refuse inputs that are not a multiple.
    """
    unit = layer.consumes
    y = layer(x)
    for n in {1, 2, 3, x.shape[2] // unit}:
        part = layer(x[:, :, : n * unit])
        shape = (len(x), y.shape[1], n * layer.produces - short)
        assert part.shape == shape, f"{n} units give {[*part.shape]}, not {[*shape]}"
        assert part.dtype == x.dtype, f"{x.dtype} gives {part.dtype}"
    if not layer.causal:
        return
    none = layer.step(x[:, :, :0], layer.start(len(x)))[0]
    assert none.shape == (*y.shape[:2], 0), f"a step of no inputs gives {[*none.shape]}"
    if unit > 1:
        partial = x[:, :, : unit + 1]
        assert_refuses(
            lambda: layer.step(partial, layer.start(len(x))),
            r"takes multiples of \d+ steps, not \d+",
        )


def assert_streams(layer: Layer, x: Tensor, *, first: int = 0, examples: int = 12) -> None:
    """Assert that steps of any sizes, 0 included, give the offline result and keep states intact.

    Args:
        layer: a causal layer.
        x: input `[b d t]`.
        first: minimum number of inputs of the first step.
        examples: number of random divisions to try.
    """
    unit = layer.consumes
    least, most = -(-first // unit), x.shape[2] // unit

    @torch.no_grad()
    def check(drawn: list[int]) -> None:
        sizes = [least + drawn[0], *drawn[1:]]
        ends = [min(most, sum(sizes[: i + 1])) * unit for i in range(len(sizes))]
        state, outputs = layer.start(len(x)), []
        for begin, end in zip([0, *ends], ends, strict=False):
            before = _copied(state)
            y, after = layer.step(x[:, :, begin:end], state)
            assert _same(state, before), "the step changed the state that it was given"
            again, _ = layer.step(x[:, :, begin:end], state)
            assert torch.equal(y, again), "a second step from one state gives another result"
            assert _shapes(after) == _shapes(before), "the state changed its shape"
            outputs.append(y)
            state = after
        if ends[-1]:
            assert_close(torch.cat(outputs, 2), layer(x[:, :, : ends[-1]]))

    for_all(check, Sizes(most=9, longest=12, shortest=1), examples=examples)


@torch.no_grad()
def assert_finishes(layer: Layer, x: Tensor, *, first: int = 0, partial: bool = True) -> None:
    """Assert that steps and `finish` give the offline result, at any division.

    Args:
        layer: a causal layer.
        x: input `[b d t]`.
        first: minimum number of inputs of the first step.
        partial: whether the input may end within a unit.
    """
    unit = layer.consumes
    least = max(1, -(-first // unit)) * unit
    ends = {least + n for n in (1, unit - 1, unit, unit + 1, 3 * unit)} if unit > 1 else {least + 1}
    for end in ends if partial else {least + unit, x.shape[2]}:
        whole = layer(x[:, :, :end])
        assert_close(layer.finish(x[:, :, :end], layer.start(len(x))), whole)
        for cut in {least, end // unit * unit}:
            outputs, state = layer.step(x[:, :, :cut], layer.start(len(x)))
            if cut < end:
                outputs = torch.cat([outputs, layer.finish(x[:, :, cut:end], state)], 2)
            assert_close(outputs, whole)


def assert_lags(layer: Layer, x: Tensor, *, mirrors: bool = False, examples: int = 25) -> None:
    """Assert that a layer with look-ahead streams exactly, at any length and division.

    A step must return every output that the inputs so far determine.

    Args:
        layer: a layer with look-ahead.
        x: input `[b d t]`.
        mirrors: whether the layer mirrors the ends, and so may return outputs later.
        examples: number of random divisions to try.
    """

    @torch.no_grad()
    def check(sizes: list[int], last: list[int]) -> None:
        end = min(x.shape[2], max(1, sum(sizes) + sum(last)))
        ends = [min(end, sum(sizes[: i + 1])) for i in range(len(sizes))]
        state, outputs, given = layer.start(len(x)), [], 0
        whole = layer(x[:, :, :end])
        reached = [layer.input_span(j, j)[1] for j in range(whole.shape[2])]
        for begin, stop in zip([0, *ends], ends, strict=False):
            before = _copied(state)
            y, after = layer.step(x[:, :, begin:stop], state)
            assert _same(state, before), "the step changed the state that it was given"
            outputs.append(y)
            state, given = after, given + y.shape[2]
            known = sum(hi < stop for hi in reached)
            assert mirrors or given >= known, f"{stop} steps determine {known}, {given} given"
        outputs.append(layer.finish(x[:, :, max([0, *ends]) : end], state))
        assert_close(torch.cat(outputs, 2), whole)

    sizes, last = Sizes(most=99, longest=12, common=tuple(range(10))), Sizes(most=9, longest=1)
    for_all(check, sizes, last, examples=examples)


@torch.no_grad()
def assert_causal(layer: Layer, x: Tensor, *, poison: float = NAN, first: int = 0) -> None:
    """Assert that the outputs of the first n units do not depend on later inputs, for every n.

    Args:
        layer: a causal layer.
        x: input `[b d t]`.
        poison: value of inputs that must not be used.
        first: number of inputs to exclude, because a mirrored start depends on later ones.
    """
    assert layer.causal, "the layer says that it looks ahead"
    unit, total = layer.consumes, x.shape[2]
    ends = torch.arange(-(-first // unit) * unit or unit, total, unit)
    future = torch.arange(total) >= ends[:, None, None]
    whole = x[:1].expand(len(ends), -1, -1)
    y = layer(whole)
    z = layer(torch.where(future, _poisoned(whole, poison), whole))
    past = torch.arange(y.shape[2]) < (ends // unit * layer.produces)[:, None]
    assert not (_differ(y, z) & past).any(), "an output changed with a later input"
    for j in range(y.shape[2]):
        last = layer.input_span(j, j)[1]
        assert last < (j // layer.produces + 1) * unit, f"output {j} is said to see input {last}"


@torch.no_grad()
def assert_input_span(
    layer: Layer, x: Tensor, *, poison: float = NAN, inside: bool = False
) -> None:
    """Assert that the declared receptive field is the measured one, poisoning each input in turn.

    Args:
        layer: the layer.
        x: input `[b d t]`.
        poison: value of the poisoned input.
        inside: whether to test only outputs that do not depend on padding, for layers whose padding
            is computed from the signal.
    """
    inputs = x.shape[2]
    whole = x[:1].expand(inputs, -1, -1)
    turn = torch.eye(inputs, dtype=torch.bool)[:, None]
    sees = _differ(layer(whole), layer(torch.where(turn, _poisoned(whole, poison), whole)))
    outputs, asked = sees.shape[1], 0
    for first in range(outputs):
        for last in {first, min(first + 3, outputs - 1)}:
            lo, hi = layer.input_span(first, last)
            if inside and not (lo >= 0 and hi < inputs):
                continue
            asked += 1
            at = sees[:, first : last + 1].any(1).nonzero().flatten()
            measured = (at.min().item(), at.max().item())
            # A dilated kernel that starts in the padding may not use the first input.
            begin = 0 if lo == -math.inf else lo if lo >= 0 else measured[0]
            end = inputs - 1 if hi == math.inf else hi if hi < inputs else measured[1]
            assert measured == (begin, end), f"outputs {first}..{last} see {measured}"
    assert asked, "the signal is too short to see past the padding"


@torch.no_grad()
def assert_padding(layer: Layer, x: Tensor, *, poison: float = NAN, inside: bool = False) -> None:
    """Assert that outputs do not depend on padding outside their receptive field, nor on the batch.

    The signal is followed by nothing, zeros or poison. Each sequence of a batch of three must give
    what it gives alone, even if another one is NaN.

    Args:
        layer: the layer.
        x: input `[b d t]`.
        poison: value of poisoned padding.
        inside: whether to test only outputs that do not depend on padding at the start.
    """
    units = x.shape[2] // layer.consumes
    for n in {1, units - 2}:
        end = n * layer.consumes
        alone, rest = layer(x[:, :, :end]), x[:, :, end:]
        spans = [layer.input_span(j, j) for j in range(alone.shape[2])]
        blind = [j for j, (lo, hi) in enumerate(spans) if hi < end and (lo >= 0 or not inside)]
        for padding in (torch.zeros_like(rest), _poisoned(rest, poison)):
            padded = layer(torch.cat([x[:, :, :end], padding], 2))
            assert_close(padded[:, :, blind], alone[:, :, blind], 1e-6)
    batch = layer(x)
    apart = [layer(x[i : i + 1]) for i in range(len(x))]
    assert_close(batch, torch.cat(apart), 1e-6)
    spoilt = x.clone()
    spoilt[1] = NAN
    assert_close(layer(spoilt)[[0, 2]], batch[[0, 2]], 1e-6)


def _poisoned(x: Tensor, poison: float) -> Tensor:
    """Return noise scaled by `poison`, of the shape of x."""
    return poison * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))


def _differ(one: Tensor, other: Tensor) -> Tensor:
    """Return where any feature differs by more than rounding, bool `[b t]`."""
    return ~torch.isclose(one, other, rtol=1e-5, atol=1e-6).all(1)


def _copied(state: Any) -> Any:
    """Return a copy of a state."""
    if isinstance(state, tuple):
        return tuple(_copied(s) for s in state)
    return state.clone() if isinstance(state, Tensor) else state


def _shapes(state: Any) -> Any:
    """Return the shapes and types of a state's tensors."""
    if isinstance(state, tuple):
        return [_shapes(s) for s in state]
    return (state.shape, state.dtype) if isinstance(state, Tensor) else None


def _same(one: Any, other: Any) -> bool:
    """Return whether two states are equal."""
    if isinstance(one, tuple):
        return all(_same(a, b) for a, b in zip(one, other, strict=True))
    return torch.equal(one, other) if isinstance(one, Tensor) else one is other
