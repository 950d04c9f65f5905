"""Batches of streams of an exported codec: each gets what it gets alone."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sizes import SIZES
from sizes import made as small
from test_backends import as_exported

from audiotok.codecs.models.base import Codec
from audiotok.runtime.exported import Exported
from audiotok.runtime.sessions import Decoding, Encoding
from audiotok.runtime.stream import Stream, StreamBatch
from audiotok.runtime.table import ROWS, GraphState, Table, store_outputs


def made(name: str) -> Codec:
    return small(name, SIZES[name][-1 if name == "speech" else 0])


@pytest.fixture(
    scope="module",
    params=[("speech", True), ("speech", False), ("encodec", True), ("mimi", True)],
    ids=str,
)
def exported(request: pytest.FixtureRequest) -> Exported:
    name, rings = request.param
    return as_exported(made(name), rings=rings)


def wave(codec: Exported, samples: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    x = random.standard_normal((codec.channels, samples)) * np.sin(np.arange(samples) / 500)
    return 0.1 * x.astype("f4")


def alone(codec: Exported, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes and samples of one that is stepped by itself, in blocks as offline."""
    there, back = Encoding(codec.executor), Decoding(codec.executor)
    codes = np.concatenate([there.push(x[None]), there.finish()], 2)
    return codes[0], np.concatenate([back.push(codes), back.finish()], 2)[0]


def assert_near(codes: np.ndarray, right: np.ndarray) -> None:
    """All but near-ties."""
    assert codes.shape == right.shape
    assert (codes != right).any(0).sum() <= 1


@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_whoever_is_beside_it_each_gets_what_it_gets_alone(exported: Exported, data: st.DataObject):
    """They begin late, miss steps, send pieces of any size, and leave early."""
    batch, hop = StreamBatch(exported), exported.frame_size
    count = data.draw(st.integers(1, 5), label="conversations")
    lengths = [data.draw(st.integers(1, 12 * hop), label="samples") for _ in range(count)]
    waves = [wave(exported, length, i) for i, length in enumerate(lengths)]
    voices, sent = [batch.open() for _ in waves], [0] * count
    codes: list[list[np.ndarray]] = [[] for _ in waves]
    heard: list[list[np.ndarray]] = [[] for _ in waves]
    while left := [i for i in range(count) if sent[i] < lengths[i]]:
        now = data.draw(st.lists(st.sampled_from(left), unique=True, min_size=1), label="now")
        pieces = {}
        for i in now:
            size = data.draw(st.sampled_from([1, hop - 1, hop, hop, 2 * hop + 3]))
            pieces[voices[i]] = waves[i][:, sent[i] : sent[i] + size]
            sent[i] += size
        given = batch.encode(pieces)
        sound = batch.decode(given)
        for i in now:
            codes[i].append(given[voices[i]])
            heard[i].append(sound[voices[i]])
            if sent[i] >= lengths[i]:
                rest = voices[i].finish_encode()
                codes[i].append(rest)
                if rest.shape[1]:
                    heard[i].append(batch.decode({voices[i]: rest})[voices[i]])
                heard[i].append(voices[i].finish_decode())
    for x, mine, sound in zip(waves, codes, heard, strict=True):
        right, back = alone(exported, x)
        assert_near(np.concatenate(mine, 1), right)
        found = np.concatenate(sound, 1)
        assert found.shape == back.shape
        if np.array_equal(np.concatenate(mine, 1), right):
            assert np.abs(found - back).max() < 1e-4


def test_longer_than_any_memory_and_more_than_the_table_had():
    """Past the window of attention, with tables that grow and rows that are taken again."""
    codec = as_exported(made("speech"), rings=True)
    batch, hop, count, frames = StreamBatch(codec), codec.frame_size, ROWS + 3, 130
    waves = [wave(codec, frames * hop, i) for i in range(count)]
    gone = batch.open()
    batch.encode({gone: waves[0][:, : 9 * hop]})
    del gone  # whose row is not clean
    voices = [batch.open() for _ in waves]
    codes: list[list[np.ndarray]] = [[] for _ in waves]
    for step in range(frames + 3):
        # A few among many, then all but one at times; they begin one after the other, in any order.
        part = range(4) if step < 4 else range(count - step % 2)
        frame = {i: step - i % 3 for i in sorted(part, key=lambda i: (7 * i + step) % count)}
        pieces = {
            voices[i]: waves[i][:, at * hop : (at + 1) * hop] for i, at in frame.items() if at >= 0
        }
        for voice, given_now in batch.encode(pieces).items():
            codes[voices.index(voice)].append(given_now)
    for i in range(4):
        found = np.concatenate([*codes[i], voices[i].finish_encode()], 1)
        assert np.array_equal(found, alone(codec, waves[i])[0])


@pytest.mark.parametrize("direction", ["encode", "decode"])
def test_a_step_that_fails_ends_its_streams_and_leaves_the_others(
    exported: Exported, direction: str, monkeypatch: pytest.MonkeyPatch
):
    batch, hop = StreamBatch(exported), exported.frame_size
    unit = hop if direction == "encode" else 1
    first = 4 + exported.executor.plan.first_frames
    whole = [wave(exported, (first + 8) * hop, i) for i in range(5)]
    inputs = whole if direction == "encode" else [alone(exported, x)[0] for x in whole]
    step: Any = getattr(batch, direction)

    def finish(stream: Stream[Any]) -> np.ndarray:
        return getattr(stream, f"finish_{direction}")()

    streams, right = [batch.open() for _ in inputs], []
    for x in inputs:
        one = batch.open()
        right.append(np.concatenate([step({one: x})[one], finish(one)], 1))
    pairs = list(zip(streams, inputs, strict=True))
    begun = step({stream: x[:, : first * unit] for stream, x in pairs})

    def fails(*_: Any) -> Any:
        raise RuntimeError("no memory")

    with monkeypatch.context() as patch:
        patch.setattr(exported.graphs, "execute", fails)
        with pytest.raises(RuntimeError, match="no memory"):
            step({stream: x[:, first * unit : (first + 2) * unit] for stream, x in pairs[:2]})
    for stream, x in pairs[:2]:
        with pytest.raises(ValueError, match=r"^a step of this stream failed, and its input is"):
            step({stream: x[:, (first + 2) * unit :]})
        with pytest.raises(ValueError, match=r"^a step of this stream failed"):
            finish(stream)
    for (stream, x), own in list(zip(pairs, right, strict=True))[2:]:
        found = [begun[stream], step({stream: x[:, first * unit :]})[stream], finish(stream)]
        assert np.allclose(np.concatenate(found, 1), own, atol=1e-4)


def test_threads_take_rows_of_one_table():
    state = GraphState({"x": np.ones((1, 3))}, np.ones(1, np.int64))
    table, threads, each = Table(state), 8, 100
    before = sys.getswitchinterval()
    try:
        sys.setswitchinterval(1e-6)
        with ThreadPoolExecutor(threads) as pool:
            admitted = list(pool.map(lambda _: table.admit(state), range(threads * each)))
    finally:
        sys.setswitchinterval(before)
    assert len({row.index for row in admitted}) == threads * each
    assert all(row.copy().arrays["x"].all() for row in admitted)


@pytest.mark.parametrize("each", [1, 2])
@pytest.mark.parametrize("frames", [1, 3, 6])
def test_what_a_step_adds_goes_round_the_ring(frames: int, each: int):
    ring, seen = np.full((2, 1, 5, 1), -1.0), np.arange(1, 40)
    at = np.array([0, 0])
    for begin in range(0, 36, frames * each):
        new = np.stack([seen, 100 + seen])[:, None, begin : begin + frames * each, None]
        store_outputs({"x": ring}, {"new.x": new.astype(float)}, slice(None), at, frames)
        at = at + frames
    right, end = np.empty(5), each * int(at[0])
    right[np.arange(end - 5, end) % 5] = seen[end - 5 : end]
    assert np.array_equal(ring[0, 0, :, 0], right)
    assert np.array_equal(ring[1, 0, :, 0], 100 + right)


def test_what_was_exported_whole_is_refused():
    with pytest.raises(ValueError, match="has no steps, so it cannot stream: export it again"):
        StreamBatch(as_exported(made("speech"), steps=False)).open()
