"""Contracts of families of parts; the tests of a family run them on every part.

Layers      assert_lengths  assert_streams  assert_finishes  assert_lags  assert_causal
            assert_reach  assert_padding
Quantizers  assert_quantizes  assert_refines  assert_tables
Codecs      assert_lengths_exact  assert_cuttable  assert_batches  assert_groups  assert_prefixes
            assert_no_future  assert_latency  assert_receptive_field  assert_trains
            assert_tensors  assert_differentiable  assert_embeddings
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from audiotok.audio.audio import Audio
from audiotok.codecs.models.base import Codec
from audiotok.nn.layers.base import Layer
from audiotok.nn.quantizers.base import Quantizer
from audiotok.nn.quantizers.grouped_rvq import GroupedRvq
from audiotok.nn.quantizers.multi_scale_rvq import MultiScaleRvq
from audiotok.nn.quantizers.rvq import Factorised, Rvq
from audiotok.nn.quantizers.segment_rvq import HEAD, SegmentRvq
from audiotok.nn.quantizers.split_rvq import SplitRvq
from audiotok.runtime.sessions import Decoding, Encoding
from audiotok.runtime.stream import Stream

NAN = float("nan")


def assert_close(one: Tensor, other: Tensor, tolerance: float = 1e-5) -> None:
    """Assert equal shapes, and values equal up to a fraction of the largest value."""
    assert one.shape == other.shape, f"{tuple(one.shape)} is not {tuple(other.shape)}"
    if one.numel():
        worst = (one - other).abs().max().item()
        assert worst <= tolerance * max(1e-3, other.abs().max().item()), f"off by {worst:.2e}"


# -- layers -----------------------------------------------------------------------------------
#
# `x [b d t]` is an input of the right width, t a multiple of `layer.consumes`, b at least 3.
# `poison` replaces inputs that must not be used. NaN spreads to every output that depends on it; in
# a softmax it spreads even from weight zero, so attention is tested with a large number instead.


@torch.no_grad()
def assert_lengths(layer: Layer, x: Tensor, *, short: int = 0) -> None:
    """Assert that each `consumes` inputs give `produces` outputs, less `short` outputs in all.

    A causal layer must accept a step of no inputs, and refuse inputs that are not a multiple.
    """
    unit = layer.consumes
    y = layer(x)
    for n in {1, 2, 3, x.shape[2] // unit}:
        part = layer(x[:, :, : n * unit])
        assert part.shape == (len(x), y.shape[1], n * layer.produces - short)
        assert part.dtype == x.dtype
    if not layer.causal:
        return
    assert layer.step(x[:, :, :0], layer.start(len(x)))[0].shape == (*y.shape[:2], 0)
    if unit > 1:
        with pytest.raises(ValueError, match=r"takes multiples of \d+ steps, not \d+"):
            layer.step(x[:, :, : unit + 1], layer.start(len(x)))


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

    @settings(max_examples=examples, deadline=None)
    @given(st.lists(st.integers(0, 9), min_size=1, max_size=12))
    def check(pieces: list[int]) -> None:
        sizes = [least + pieces[0], *pieces[1:]]
        ends = [min(most, sum(sizes[: i + 1])) * unit for i in range(len(sizes))]
        state, made = layer.start(len(x)), []
        for begin, end in zip([0, *ends], ends, strict=False):
            before = _copied(state)
            y, after = layer.step(x[:, :, begin:end], state)
            assert _same(state, before), "the step changed the state that it was given"
            again, _ = layer.step(x[:, :, begin:end], state)
            assert torch.equal(y, again), "a second step from one state gives another result"
            assert _shapes(after) == _shapes(before), "the state changed its shape"
            made.append(y)
            state = after
        if ends[-1]:
            assert_close(torch.cat(made, 2), layer(x[:, :, : ends[-1]]))

    with torch.no_grad():
        check()


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
            made, state = layer.step(x[:, :, :cut], layer.start(len(x)))
            if cut < end:
                made = torch.cat([made, layer.finish(x[:, :, cut:end], state)], 2)
            assert_close(made, whole)


def assert_lags(layer: Layer, x: Tensor, *, mirrors: bool = False, examples: int = 25) -> None:
    """Assert that a layer with look-ahead streams exactly, at any length and division.

    A step must return every output that the inputs so far determine.

    Args:
        layer: a layer with look-ahead.
        x: input `[b d t]`.
        mirrors: whether the layer mirrors the ends, and so may return outputs later.
        examples: number of random divisions to try.
    """

    @settings(max_examples=examples, deadline=None)
    @given(st.lists(st.integers(0, 9) | st.integers(10, 99), max_size=12), st.integers(0, 9))
    def check(pieces: list[int], last: int) -> None:
        end = min(x.shape[2], max(1, sum(pieces) + last))
        ends = [min(end, sum(pieces[: i + 1])) for i in range(len(pieces))]
        state, made, given = layer.start(len(x)), [], 0
        whole = layer(x[:, :, :end])
        reached = [layer.input_span(j, j)[1] for j in range(whole.shape[2])]
        for begin, stop in zip([0, *ends], ends, strict=False):
            before = _copied(state)
            y, after = layer.step(x[:, :, begin:stop], state)
            assert _same(state, before), "the step changed the state that it was given"
            made.append(y)
            state, given = after, given + y.shape[2]
            known = sum(hi < stop for hi in reached)
            assert mirrors or given >= known, f"{stop} steps determine {known}, {given} given"
        made.append(layer.finish(x[:, :, max([0, *ends]) : end], state))
        assert_close(torch.cat(made, 2), whole)

    with torch.no_grad():
        check()


@torch.no_grad()
def assert_causal(layer: Layer, x: Tensor, *, poison: float = NAN, first: int = 0) -> None:
    """Assert that the outputs of the first n units do not depend on later inputs, for every n.

    Args:
        layer: a causal layer.
        x: input `[b d t]`.
        poison: value of inputs that must not be used.
        first: number of inputs to exclude, because a mirrored start depends on later ones.
    """
    assert layer.causal
    unit, total = layer.consumes, x.shape[2]
    ends = torch.arange(-(-first // unit) * unit or unit, total, unit)
    future = torch.arange(total) >= ends[:, None, None]
    whole = x[:1].expand(len(ends), -1, -1)
    y = layer(whole)
    z = layer(torch.where(future, _poisoned(whole, poison), whole))
    made = torch.arange(y.shape[2]) < (ends // unit * layer.produces)[:, None]
    assert not (_differ(y, z) & made).any(), "an output changed with a later input"
    for j in range(y.shape[2]):
        assert layer.input_span(j, j)[1] < (j // layer.produces + 1) * unit


@torch.no_grad()
def assert_reach(layer: Layer, x: Tensor, *, poison: float = NAN, inside: bool = False) -> None:
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


# -- quantizers -------------------------------------------------------------------------------


def assert_quantizes(quantizer: Quantizer, latent: Tensor) -> None:
    """Assert that encoding, decoding, training and autocast agree, for any number of codebooks.

    Args:
        quantizer: a quantizer in eval mode.
        latent: latents `[b d f]`, float32, b at least 2.
    """
    b, d, f = latent.shape
    before = {key: value.clone() for key, value in quantizer.state_dict().items()}
    codes = quantizer.encode(latent)
    assert codes.shape == (b, quantizer.codebooks, f)
    assert codes.dtype == torch.int64
    for rows, size in zip(codes.unbind(1), quantizer.sizes, strict=True):
        assert rows.min() >= 0
        assert rows.max() < size
        assert len(rows.unique()) > 1, "a codebook that says one thing says nothing"
    assert torch.equal(codes, quantizer.encode(latent)), "not deterministic"
    apart = [quantizer.encode(latent[i : i + 1]) for i in range(b)]
    assert torch.equal(codes, torch.cat(apart)), "codes depend on the neighbours in the batch"

    for n in range(1, quantizer.codebooks + 1):
        assert torch.equal(quantizer.encode(latent, n), codes[:, :n])
        assert quantizer.decode(codes[:, :n]).shape == (b, d, f)
    for wrong in (0, quantizer.codebooks + 1):
        with pytest.raises(ValueError, match=f"^{wrong} codebooks asked for; there are 1 to"):
            quantizer.encode(latent, wrong)

    asked = latent.clone().requires_grad_()
    made = quantizer(asked)
    assert torch.equal(made.codes, codes)
    decoded = quantizer.decode(codes)
    assert_close(made.latent, decoded, 1e-5)
    assert made.first is not None
    assert_close(made.first, quantizer.decode(codes[:, :1]), 1e-5)
    assert torch.equal(made.stages[0], made.first)
    assert len(made.stages) == quantizer.codebooks
    for n in range(1, quantizer.codebooks + 1):
        whole = torch.stack(list(made.stages[:n])).sum(0)
        assert_close(whole, quantizer.decode(codes[:, :n]), 1e-5)
    (slope,) = torch.autograd.grad(made.stages[-1].square().mean(), asked, retain_graph=True)
    assert (slope.abs().amax(1) > 0).all(), "the last codebook gives a frame no gradient"
    assert made.losses
    for loss in (made.latent.square().mean(), made.first.square().mean(), *made.losses.values()):
        (slope,) = torch.autograd.grad(loss, asked, retain_graph=True)
        assert slope.isfinite().all()
        assert (slope.abs().amax(1) > 0).all(), "a frame of the latent has no gradient"

    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(quantizer.encode(latent), codes)
        assert torch.equal(quantizer(latent).codes, codes)
        assert torch.equal(quantizer.decode(codes), decoded)
        half = quantizer(latent.bfloat16())
    assert half.latent.isfinite().all()
    assert all(loss.isfinite() for loss in half.losses.values())
    assert torch.equal(half.codes, quantizer.encode(latent.bfloat16().float()))
    assert_close(half.latent.float(), quantizer.decode(half.codes), 2e-2)

    none = quantizer.encode(latent[:, :, :0])
    assert none.shape == (b, quantizer.codebooks, 0)
    assert quantizer.decode(none).shape == (b, d, 0)
    assert _unchanged(quantizer, before), "looking changed the quantizer"


def assert_refines(quantizer: Quantizer, latent: Tensor, *, after: int = 0) -> None:
    """Assert that each codebook after the first `after` reduces the error of the decoded latent."""
    codes = quantizer.encode(latent)
    errors = [
        (latent - quantizer.decode(codes[:, :n])).square().mean().item()
        for n in range(after + 1, quantizer.codebooks + 1)
    ]
    assert errors[0] < latent.var(), "the first codebook says less than the mean"
    assert all(after < before for before, after in pairwise(errors)), errors


def assert_tables(quantizer: Quantizer, codes: Tensor) -> None:
    """Assert that the sum of the tables' rows is what codes `[b k f]` decode to, for any k."""
    tables = [quantizer.table(i) for i in range(quantizer.codebooks)]
    assert tuple(map(len, tables)) == quantizer.sizes
    looked_up = [table[rows] for table, rows in zip(tables, codes.unbind(1), strict=True)]
    for n in range(1, quantizer.codebooks + 1):
        summed = torch.stack(looked_up[:n]).sum(0).transpose(1, 2)
        assert_close(summed, quantizer.decode(codes[:, :n]))


def _unchanged(module: torch.nn.Module, before: dict[str, Tensor]) -> bool:
    """Return whether the state dict of a module equals an earlier one."""
    return all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


# -- codecs -----------------------------------------------------------------------------------
#
# `codec` is in eval mode and on the CPU; its weights may be random.


def assert_lengths_exact(codec: Codec, lengths: Sequence[int]) -> None:
    """Assert that incomplete frames count, and that decoding restores the length in samples."""
    for n in lengths:
        tokens = codec.encode(noise(codec, n))
        assert (tokens.samples, tokens.frames) == (n, -(-n // codec.frame_size))
        assert tokens.codes.shape == (codec.codebooks, tokens.frames)
        audio = codec.decode(tokens)
        assert (len(audio), audio.channels, audio.rate) == (n, codec.channels, codec.sample_rate)


def assert_cuttable(codec: Codec, audio: Audio, *, examples: int = 10) -> None:
    """Assert that codes and samples are bit-identical for any division of the input."""
    assert codec.exact_chunks
    tokens = codec.encode(audio)
    codes, wave = torch.from_numpy(tokens.codes.copy())[None], codec.decode(tokens).samples[None]
    frame, block = codec.frame_size, codec.block * codec.frame_size
    common = [0, 1, frame - 1, frame, frame + 1, block - 1, block, block + 1]
    sizes = st.lists(st.sampled_from(common) | st.integers(0, len(audio)), max_size=30)

    @settings(max_examples=examples, deadline=None)
    @given(sizes, sizes)
    def check(waves: list[int], frames: list[int]) -> None:
        encoding = Encoding(codec)
        made = [encoding.push(piece) for piece in _cut(audio.samples[None], waves)]
        assert torch.equal(torch.cat([*made, encoding.finish()], 2), codes)
        decoding = Decoding(codec, samples=len(audio))
        heard = [decoding.push(piece) for piece in _cut(codes, [n // frame for n in frames])]
        assert torch.equal(torch.cat([*heard, decoding.finish()], 2), wave)

    check()


def assert_batches(codec: Codec, audios: Sequence[Audio]) -> None:
    """Assert that on a CPU a batch gives each recording the tokens and audio that it gets alone."""
    alone = [codec.encode(audio) for audio in audios]
    assert codec.encode_batch(audios) == alone
    for one, other in zip(codec.decode_batch(alone), map(codec.decode, alone), strict=True):
        assert torch.equal(one.samples, other.samples)
    few = codec.encode_batch(audios, codebooks=1)
    assert few == [tokens.first(1) for tokens in alone]
    assert codec.encode_batch([]) == []


def assert_groups(codec: Codec, audios: Sequence[Audio], group: int) -> int:
    """Assert that codes of a padded group differ from those alone only at near-ties.

    Rounding depends on the shape of a matrix product. The first code of a frame that differs must
    be a near-tie: a change of the latent by 1e-4 of its length would change it.

    Returns:
        The number of frames that differ.
    """
    alone, beside = codec.encode_batch(audios), codec.encode_batch(audios, group=group)
    differ = 0
    for audio, one, other in zip(audios, alone, beside, strict=True):
        assert (one.samples, one.codes.shape) == (other.samples, other.codes.shape)
        differ += near_ties(codec, audio, one.codes, other.codes)
    total = sum(tokens.frames for tokens in alone)
    assert differ <= total / 1000, f"{differ} of {total} frames differ"
    return differ


def near_ties(codec: Codec, audio: Audio, one: np.ndarray, other: np.ndarray) -> int:
    """Return how many frames of codes `[k f]` differ, asserting that each is a near-tie."""
    differ = np.flatnonzero((one != other).any(0))
    if not len(differ):
        return 0
    latent = latents(codec, audio)
    for f in differ:
        k = int(np.flatnonzero(one[:, f] != other[:, f])[0])
        margin = _margin(codec, latent[:, f], one[: k + 1, f], other[: k + 1, f])
        assert margin < 1e-4, f"frame {f}, codebook {k}: margin {margin:.1e} is no near-tie"
    return len(differ)


@torch.no_grad()
def _margin(codec: Codec, latent: Tensor, one: np.ndarray, other: np.ndarray) -> float:
    """Return the distance of `latent [d]` to the boundary between two codes, over its length.

    The codes `[k]` of one and other differ in the last codebook.
    """
    stage, rest, latent = _searched(codec.quantizer, latent, torch.tensor(one[:-1]))
    entries = torch.as_tensor(stage.entries)
    if isinstance(stage, Factorised):
        latent = rest = F.normalize(stage.down(rest), dim=0)
        entries = F.normalize(entries)
    a, b = entries[int(one[-1])], entries[int(other[-1])]
    apart = (rest - a).square().sum() - (rest - b).square().sum()
    return (apart.abs() / (2 * (a - b).norm() * latent.norm())).item()


def _searched(quantizer: Quantizer, latent: Tensor, codes: Tensor) -> tuple[Any, Tensor, Tensor]:
    """Return the codebook after codes `[k]`, the vector it quantizes, and that vector's latent."""
    k = len(codes)
    if isinstance(quantizer, GroupedRvq):
        first, left = 0, 0
        for part, width in zip(quantizer.quantizers(), quantizer.widths, strict=True):
            if k < first + part.codebooks:
                return _searched(part, latent[left : left + width], codes[first:])
            first += part.codebooks
            left += width
    if isinstance(quantizer, SplitRvq):
        first = quantizer.semantic.rvq.codebooks
        part = quantizer.semantic if k < first else quantizer.acoustic
        return _searched(part.rvq, part.down(latent), codes[first if k >= first else 0 :])
    if isinstance(quantizer, MultiScaleRvq):
        stage, span, first = [level for level in quantizer.levels() if level[2] <= k][-1]
        if first:
            latent = latent - quantizer.decode(codes[None, :first, None])[0, :, 0]
        mean = latent.view(-1, span, latent.shape[0] // quantizer.steps).mean(1)[k - first]
        return stage, mean, latent
    if isinstance(quantizer, SegmentRvq):
        book, step = divmod(k - HEAD, quantizer.latents)
        latent = latent[2:].view(quantizer.latents, -1)[step]
        return _searched(
            quantizer.rvq, latent, codes[HEAD:].view(-1, 1)[step :: quantizer.latents, 0][:book]
        )
    assert isinstance(quantizer, Rvq)
    stages: Any = list(quantizer.stages)
    rest = latent - sum(stage.look_up(code) for stage, code in zip(stages, codes, strict=False))
    return stages[k], rest, latent


def assert_live(codec: Codec, audio: Audio, *, examples: int = 10) -> None:
    """Assert that a stream gives the offline result, up to near-ties and rounding."""
    tokens = codec.encode(audio)
    whole = torch.from_numpy(tokens.codes.copy())
    decoded = codec.decode(tokens).samples
    frame = codec.frame_size

    @settings(max_examples=examples, deadline=None)
    @given(sizes=st.lists(st.integers(0, 5 * frame), max_size=20))
    def check(sizes: list[int]) -> None:
        stream = Stream(codec)
        made = [stream.encode(piece[0]) for piece in _cut(audio.samples[None], sizes)]
        codes = torch.cat([*made, stream.finish_encode()], 1).numpy()
        assert codes.shape == tokens.codes.shape
        assert near_ties(codec, audio, tokens.codes, codes) <= max(1, tokens.frames / 1000)
        heard = [
            stream.decode(piece[0]) for piece in _cut(whole[None], [n // frame for n in sizes])
        ]
        wave = torch.cat([*heard, stream.finish_decode()], 1)
        assert wave.shape[1] == tokens.frames * frame
        assert_close(wave[:, : tokens.samples], decoded)

    check()


def assert_prefixes(codec: Codec, audio: Audio) -> None:
    """Assert that fewer codebooks are the first of all codebooks, and that they decode."""
    tokens = codec.encode(audio)
    heard = []
    for n in range(1, codec.codebooks + 1):
        first = codec.encode(audio, codebooks=n)
        assert first == tokens.first(n)
        heard.append(codec.decode(first).samples)
        assert heard[-1].isfinite().all()
    for coarse, fine in pairwise(heard):
        assert not torch.equal(coarse, fine), "a codebook that decodes to nothing"


def assert_no_future(codec: Codec) -> None:
    """Assert that codes and decoded samples depend on no more than `codec.look_ahead`.

    Codes of a frame must not depend on samples from `look_ahead` samples after its end on, and
    decoded samples not on frames that start `look_ahead` samples or more after them. Later codes
    and samples must change. Frames that a codec mirrors before the start are excluded, since they
    depend on later ones.
    """
    block = codec.block
    frames = block + 20
    audio = noise(codec, frames * codec.frame_size)
    tokens = codec.encode(audio)
    wave = codec.decode(tokens).samples
    mirrored = codec.first_frames - 1
    for i in (mirrored, mirrored + 1, block - 2, block - 1, block, frames - 2):
        end = (i + 1) * codec.frame_size + codec.look_ahead
        samples = audio.samples.clone()
        samples[:, end:] = 0.5 * torch.randn(samples[:, end:].shape)
        codes = codec.encode(Audio(samples, audio.rate)).codes
        assert np.array_equal(codes[:, : i + 1], tokens.codes[:, : i + 1])
        after = slice(i + 1, i + 4)  # a single frame may have the same codes by chance
        assert not np.array_equal(codes[:, after], tokens.codes[:, after])

        if i == mirrored > 0:
            continue
        codes = tokens.codes.copy()
        codes[:, i:] = (codes[:, i:] + 1) % np.array(codec.sizes)[:, None]
        start = max(0, i * codec.frame_size - codec.look_ahead)
        other = codec.decode(replace(tokens, codes=codes)).samples
        assert torch.equal(other[:, :start], wave[:, :start])
        assert not torch.equal(
            other[:, : start + codec.frame_size], wave[:, : start + codec.frame_size]
        )


def assert_latency(codec: Codec) -> None:
    """Assert that the declared latency is the longest delay of a decoded sample.

    The delay is measured by streaming one sample at a time.
    """
    latency = round(codec.latency * codec.sample_rate)
    audio = noise(codec, latency + 4 * codec.frame_size)
    stream, heard, waits = Stream(codec), 0, []
    for arrived, sample in enumerate(audio.samples.split(1, 1), 1):
        made = stream.decode(stream.encode(sample)).shape[1]
        if made:
            waits.append(arrived - heard)  # the first of these samples has the longest delay
        heard += made
    assert len(waits) > 2
    assert max(waits) == latency


def assert_receptive_field(codec: Codec) -> None:
    """Assert that the declared receptive field is that of the gradient of a latent."""
    before, after = codec.receptive_field
    frame, unbounded = codec.frame_size, 5  # frames to test where the receptive field is unbounded
    i = unbounded if before == math.inf else math.ceil(before / frame) + 1
    past = unbounded if after == math.inf else math.ceil(after / frame) + 2
    wave = noise(codec, (i + 1 + past) * frame).samples.requires_grad_()
    latent = _latents(codec, wave)[:, i]
    (slope,) = torch.autograd.grad((latent * torch.randn(latent.shape)).sum(), wave)
    seen = slope.abs().sum(0).nonzero().flatten()
    measured = (i * frame - int(seen.min()), int(seen.max()) - (i + 1) * frame + 1)
    assert measured == (min(before, i * frame), min(after, past * frame))


def assert_trains(codec: Codec) -> None:
    """Assert that training gives every parameter a gradient, with and without split weights.

    The codec is left in training mode, with split weights where it has such.
    """
    codec.train().requires_grad_()
    wave = torch.stack([noise(codec, 30 * codec.frame_size, seed=i).samples for i in range(2)])
    for split in (False, True):
        if split:
            codec.split_weights()
        made, quantized = codec(wave, torch.tensor([codec.codebooks, 1]))
        assert made.shape == wave.shape
        loss = (made * torch.randn_like(made)).sum() + sum(quantized.losses.values())
        if hasattr(codec, "distilled"):
            for stage in quantized.stages:
                loss = loss + codec.distilled(stage).square().sum()  # pyright: ignore
        codec.zero_grad()
        loss.backward()
        for key, parameter in codec.named_parameters():
            assert parameter.grad is not None, key
            assert parameter.grad.isfinite().all(), key
            assert parameter.grad.any(), key


def _ragged(codec: Codec, clips: int) -> tuple[Tensor, list[int]]:
    """Return a batch of up to 16 recordings `[b c t]`, NaN after their ends, and their lengths."""
    f = codec.frame_size
    lengths = [3 * f, 3 * f, 0, 1, f // 3, 2 * f - 1, 4 * f + 5, 7 * f + f // 2]
    lengths += [f - 1, f, f + 1, 2 * f, 3 * f + 1, 4 * f, 5 * f // 2, 1]
    lengths = lengths[:clips]
    waves = torch.full((len(lengths), codec.channels, max(lengths) + 7), NAN)
    for i, n in enumerate(lengths):
        waves[i, :, :n] = noise(codec, n, seed=i).samples
    return waves, lengths


def assert_tensors(codec: Codec, clips: int = 8) -> None:
    """Assert that a batch of ragged recordings is coded, on a CPU, as each of them is alone."""
    waves, lengths = _ragged(codec, clips)
    alone = [
        codec.encode(wave[:, :n], rate=codec.sample_rate)
        for wave, n in zip(waves, lengths, strict=True)
    ]
    encoded = codec.encode_tensors(waves, lengths)
    assert encoded.codes.dtype == encoded.lengths.dtype == torch.int64
    assert encoded.lengths.tolist() == [tokens.frames for tokens in alone]
    assert torch.equal(encoded.mask.sum(1), encoded.lengths)
    assert not encoded.codes[~encoded.mask[:, None].expand_as(encoded.codes)].any()
    for codes, tokens in zip(encoded.codes, alone, strict=True):
        assert np.array_equal(codes[:, : tokens.frames].numpy(), tokens.codes)
    few = codec.encode_tensors(waves[4:6], torch.tensor(lengths[4:6]), codebooks=1)
    assert torch.equal(few.codes, encoded.codes[4:6, :1, : few.codes.shape[2]])

    codes = encoded.codes.masked_fill(~encoded.mask[:, None], -100)  # as labels are padded
    decoded = codec.decode_tensors(codes, samples=lengths)
    assert decoded.lengths.tolist() == lengths
    for wave, tokens in zip(decoded.waves, alone, strict=True):
        assert torch.equal(wave[:, : tokens.samples], codec.decode(tokens).samples)
        assert not wave[:, tokens.samples :].any()
    whole = codec.decode_tensors(codes[-2:], encoded.lengths[-2:])
    assert whole.lengths.tolist() == [tokens.frames * codec.frame_size for tokens in alone[-2:]]
    same = codec.decode(alone[-1].codes, samples=lengths[-1]).samples
    for wave in (whole.waves, decoded.waves):
        assert torch.equal(wave[-1, :, : lengths[-1]], same)
    none = codec.encode_tensors(waves[:0])
    assert none.codes.shape == (0, codec.codebooks, 0)
    assert codec.decode_tensors(none.codes).waves.shape == (0, codec.channels, 0)


def assert_differentiable(codec: Codec, clips: int = 8) -> None:
    """Assert that a ragged batch has the output and the gradient of each recording alone.

    On a CPU they are equal to the bit.
    """
    waves, lengths = _ragged(codec, clips)
    asked = waves.clone().requires_grad_()
    made = codec.reconstruct_tensors(asked, lengths)
    slopes = torch.randn(made.waves.shape)
    (gradient,) = torch.autograd.grad((made.waves * slopes).sum(), asked)
    assert not gradient[~made.mask[:, None].expand_as(gradient)].any()
    assert made.frames.tolist() == [codec.frames(n) for n in lengths]
    again = codec.decode_latents(made.latents, made.frames)
    loss = torch.zeros(())
    for i, n in enumerate(lengths):
        if not n:
            assert not made.waves[i].any()
            continue
        wave = waves[i : i + 1, :, :n].contiguous().requires_grad_()
        output, quantized = codec(wave)
        (alone,) = torch.autograd.grad((output * slopes[i, :, :n]).sum(), wave)
        assert alone.any()
        assert torch.equal(gradient[i, :, :n], alone[0])
        assert torch.equal(made.waves[i, :, :n], output[0])
        assert torch.equal(made.codes[i, :, : codec.frames(n)], quantized.codes[0])
        assert_close(again.waves[i, :, :n], output[0])
        latents = made.latents[i : i + 1, :, : codec.frames(n)]
        end = codec.frames(n) * codec.frame_size
        assert torch.equal(again.waves[i, :, :end], codec.decode_latents(latents).waves[0])
        loss = loss + quantized.losses["commitment"] / len(lengths)
    assert_close(made.losses["commitment"], loss)

    pair = waves[:2, :, : lengths[0]].contiguous()  # two of one length
    beside = codec.reconstruct_tensors(pair, group=2)
    assert torch.equal(beside.waves, codec(pair)[0])
    latents = codec.quantizer.decode(beside.codes).detach().requires_grad_()
    sound = codec.decode_latents(latents).waves
    (slope,) = torch.autograd.grad(sound.square().sum(), latents)
    assert (slope.abs().amax(1) > 0).all(), "a frame of latents has no gradient"


def assert_embeddings(codec: Codec) -> None:
    """Assert that sums of embeddings are the latents of codes, and decode to their audio."""
    wave = noise(codec, 12 * codec.frame_size).samples[None]
    codes = codec.encode_tensors(wave).codes
    assert_tables(codec.quantizer, codes)
    tables = codec.codebook_embeddings()
    summed = torch.stack([table[rows] for table, rows in zip(tables, codes[0], strict=True)]).sum(0)
    decoded = codec.decode_latents(summed.T[None]).waves
    assert_close(decoded, codec.decode_tensors(codes).waves, 1e-4)


def noise(codec: Codec, samples: int, seed: int = 0) -> Audio:
    """Return noise of a slowly varying level, at the codec's sample rate."""
    random = torch.Generator().manual_seed(seed + samples)
    x = torch.randn(codec.channels, samples, generator=random)
    swell = 0.1 + 0.1 * torch.sin(torch.arange(samples) / 3000 + seed)
    return Audio(x * swell, codec.sample_rate)


@torch.no_grad()
def latents(codec: Codec, audio: Audio) -> Tensor:
    """Return the latents `[d f]` of a recording, encoded in one step as in training."""
    return _latents(codec, audio.samples)


def _latents(codec: Codec, wave: Tensor) -> Tensor:
    """Return the latents `[d f]` of samples `[c t]`, with gradients."""
    if not codec.fills_up:
        return codec.finish_latent(wave[None], None)[0]
    short = -wave.shape[1] % codec.frame_size
    wave = F.pad(
        wave,
        (codec.frame_size - codec.look_ahead if codec.look_ahead else 0, short + codec.look_ahead),
    )
    latent = codec.step_latent(wave[None], codec.start_latent(1))[0][0]
    return latent[:, 1:] if codec.look_ahead else latent


def _cut(x: Tensor, sizes: list[int]) -> list[Tensor]:
    """Return pieces `[b c n]` of the given sizes, as far as x lasts, and then the rest."""
    pieces = []
    for size in sizes:
        pieces.append(x[:, :, :size])
        x = x[:, :, size:]
    return [*pieces, x]
