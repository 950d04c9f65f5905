"""Streams: side by side, to bytes and back, reset, in windows, and how late they are."""

from __future__ import annotations

import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import contracts
import numpy as np
import pytest
import torch
from contracts import noise
from hypothesis import given, settings
from hypothesis import strategies as st
from sizes import CODECS, SIZES, SMALL, is_large, made, ready
from torch import Tensor

from audiotok.codecs.checkpoint import save
from audiotok.codecs.models.base import Codec
from audiotok.codecs.models.speech import Speech
from audiotok.runtime import windows as window
from audiotok.runtime.stream import Stream, StreamBatch


@pytest.fixture(scope="module", params=CODECS, ids=lambda p: p[0])
def codec(request: pytest.FixtureRequest) -> Codec:
    return made(*request.param)


@pytest.fixture(scope="module")
def small() -> Codec:
    return made("speech", SMALL)


def joined(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts, 1)


def test_streams_side_by_side_get_what_they_get_alone(codec: Codec):
    if not math.isfinite(codec.latency):
        pytest.skip("needs the whole recording")
    frame, count = codec.frame_size, 4
    frames = 14 if is_large(codec) else 18  # those of Mimi and SNAC more than a block, of 16
    audios = [noise(codec, (frames + 3 * i) * frame + 77 * i, seed=i) for i in range(count)]
    whole = [codec.encode(audio) for audio in audios]
    heard = [codec.decode(tokens).samples for tokens in whole]
    sizes = st.lists(st.integers(0, 4 * frame), min_size=count, max_size=count)

    @settings(max_examples=2 if is_large(codec) else 6, deadline=None)
    @given(st.lists(sizes, min_size=1, max_size=12), st.lists(st.integers(0, 5), min_size=count))
    def check(rounds: list[list[int]], begins: list[int]) -> None:
        batch = StreamBatch(codec)
        streams = [batch.open() for _ in audios]
        codes: dict[Stream, list[Tensor]] = {stream: [] for stream in streams}
        waves: dict[Stream, list[Tensor]] = {stream: [] for stream in streams}
        left = {stream: audio.samples for stream, audio in zip(streams, audios, strict=True)}
        turn = 0
        while left:
            many = rounds[min(turn, len(rounds) - 1)] if turn < 40 else [4 * frame] * count
            now = {s: many[i] for i, s in enumerate(streams) if s in left and turn >= begins[i]}
            pieces = {s: left[s][:, :n] for s, n in now.items()}
            left = {s: x[:, now.get(s, 0) :] for s, x in left.items()}
            coded = batch.encode(pieces)
            sound = batch.decode(coded)
            for s in coded:
                codes[s].append(coded[s])
                waves[s].append(sound[s])
            for s in [s for s, x in left.items() if not x.shape[1]]:
                rest, end = s.finish()
                codes[s].append(rest)
                waves[s].append(end)
                del left[s]
            turn += 1
        for stream, audio, tokens, wave in zip(streams, audios, whole, heard, strict=True):
            got = joined(codes[stream]).numpy()
            assert got.shape == tokens.codes.shape
            differ = contracts.near_ties(codec, audio, tokens.codes, got)
            assert differ <= max(1, tokens.frames / 1000)
            assert joined(waves[stream]).shape == wave.shape
            if not differ:
                contracts.assert_close(joined(waves[stream]), wave, 2e-5)

    check()


def test_states_lie_side_by_side_as_long_as_the_same_streams_step(small: Codec):
    """The copy of every state at every step is saved."""
    batch = StreamBatch(small)
    streams = [batch.open() for _ in range(3)]
    frame = torch.zeros(1, small.frame_size)
    batch.encode(dict.fromkeys(streams, frame))
    before = streams[0].session("encode", small).row
    batch.encode(dict.fromkeys(streams, frame))
    rows = [stream.session("encode", small).row for stream in streams]
    assert len({id(row.shared) for row in rows}) == 1  # pyright: ignore
    assert rows[0] is not before
    batch.encode(dict.fromkeys(streams[:2], frame))
    assert streams[2].session("encode", small).row is rows[2]


@pytest.mark.parametrize("frames", [0, 1, 7])
def test_finish_gives_as_many_samples_as_went_in(codec: Codec, frames: int):
    context = None if math.isfinite(codec.latency) else 0.2
    stream = Stream(codec, context=context)
    for over in {0, 1, codec.frame_size - 1} if frames else {1, codec.frame_size // 2, 0}:
        samples = frames * codec.frame_size + over
        audio = noise(codec, samples).samples
        sound, codes = [], []
        for piece in audio.split(codec.frame_size // 3 + 1, 1) if samples else []:
            codes.append(stream.encode(piece))
            sound.append(stream.decode(codes[-1]))
        rest, end = stream.finish()
        assert joined([*sound, end]).shape == (codec.channels, codec.decoded_samples(samples))
        assert joined([*codes, rest]).shape == (codec.codebooks, -(-samples // codec.frame_size))
        stream.reset()


def test_a_stream_goes_on_from_bytes(codec: Codec):
    """The same to the bit as if it had never left."""
    context = None if math.isfinite(codec.latency) else 0.1
    stream = Stream(codec, context=context, codebooks=codec.codebooks)
    audio = noise(codec, 23 * codec.frame_size + 99).samples
    for cut in (0, 5, 11 * codec.frame_size + 13):
        stream.reset()
        stream.decode(stream.encode(audio[:, :cut]))
        other = Stream.restore(codec, stream.snapshot())
        for piece in audio[:, cut:].split(codec.frame_size * 2 + 1, 1):
            codes = stream.encode(piece)
            assert torch.equal(codes, other.encode(piece))
            assert torch.equal(stream.decode(codes), other.decode(codes))
        for one, two in zip(stream.finish(), other.finish(), strict=True):
            assert torch.equal(one, two)


def test_a_snapshot_says_nothing_of_its_neighbours(small: Codec):
    """One of many takes its own row along, and no more memory than it needs."""
    batch = StreamBatch(small)
    streams = [batch.open() for _ in range(8)]
    batch.decode(
        batch.encode({s: noise(small, 2000, seed=i).samples for i, s in enumerate(streams)})
    )
    alone = Stream(small)
    alone.decode(alone.encode(noise(small, 2000, seed=3).samples))
    one, other = Stream.restore(small, streams[3].snapshot()), alone
    assert len(streams[3].snapshot()) == len(alone.snapshot())
    rest = noise(small, 3000, seed=9).samples
    codes = one.encode(rest)
    assert torch.equal(codes, other.encode(rest))
    contracts.assert_close(one.decode(codes), other.decode(codes))


def test_a_stream_goes_on_in_another_process(small: Codec, tmp_path: Path):
    audio = noise(small, 9000).samples
    stream = Stream(small, codebooks=2)
    stream.encode(audio[:, :4567])
    save(small, tmp_path / "small.safetensors", dtype=torch.float32)
    (tmp_path / "state").write_bytes(stream.snapshot())
    np.save(tmp_path / "rest.npy", audio[:, 4567:].numpy())
    program = (
        "import numpy, torch, audiotok; from audiotok.runtime.stream import Stream;"
        "codec = audiotok.load('small.safetensors');"
        "stream = Stream.restore(codec, open('state', 'rb').read());"
        "x = torch.from_numpy(numpy.load('rest.npy'));"
        "codes = torch.cat([stream.encode(x), stream.finish_encode()], 1);"
        "numpy.save('codes.npy', codes.numpy())"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    want = joined([stream.encode(audio[:, 4567:]), stream.finish_encode()])
    assert np.array_equal(np.load(tmp_path / "codes.npy"), want.numpy())


def test_what_is_wrong_with_a_snapshot_is_said(small: Codec):
    data = Stream(small).snapshot()
    assert isinstance(Stream.restore(small, b"audiotok stream 1\n" + data[18:]), Stream)
    mimi = made("mimi", SIZES["mimi"][0])
    earlier = b"audiotok stream 1\n" + Stream(mimi).snapshot()[18:]
    with pytest.raises(ValueError, match=r"^a snapshot of a stream of an earlier audiotok"):
        Stream.restore(mimi, earlier)
    with pytest.raises(ValueError, match=r"^not a snapshot"):
        Stream.restore(small, b"RIFF" + data)
    for bad in (data[:-1], data[:40], data[:-20] + bytes([data[-20] ^ 1]) + data[-19:]):
        with pytest.raises(ValueError, match=r"^a damaged snapshot"):
            Stream.restore(small, bad)
    torch.manual_seed(1)
    with pytest.raises(ValueError, match=r"^a stream of codec 'speech' with weights"):
        Stream.restore(ready(Speech(SMALL)), data)


def test_steps_of_a_block_give_the_bits_of_the_whole(small: Codec):
    audio = noise(small, 3 * small.block * small.frame_size + 1234)
    tokens = small.encode(audio)
    stream = Stream(small, block=small.block)
    codes = [stream.encode(piece) for piece in audio.samples.split(997, 1)]
    sound = [stream.decode(code) for code in codes]
    rest, end = stream.finish()
    assert np.array_equal(joined([*codes, rest]).numpy(), tokens.codes)
    assert torch.equal(joined([*sound, end]), small.decode(tokens).samples)


def test_thousands_of_streams_on_one_codec(small: Codec):
    batch = StreamBatch(small)
    streams = [batch.open() for _ in range(2000)]
    wave = noise(small, 4 * small.frame_size).samples
    codes = [batch.encode(dict.fromkeys(streams, x)) for x in wave.split(2 * small.frame_size, 1)]
    last = codes[-1][streams[1234]]
    assert torch.equal(Stream(small).encode(wave)[:, -2:], last)


def test_streams_of_one_codec_run_in_threads(small: Codec):
    audios = [noise(small, 8000, seed=i) for i in range(8)]

    def coded(i: int) -> Tensor:
        stream = Stream(small)
        pieces = [stream.encode(piece) for piece in audios[i].samples.split(401, 1)]
        return joined([*pieces, stream.finish_encode()])

    with ThreadPoolExecutor(4) as pool:
        threaded = list(pool.map(coded, range(8)))
    assert all(torch.equal(coded(i), threaded[i]) for i in range(8))


def test_latency_is_reported(small: Codec):
    stream = Stream(small)
    assert math.isnan(stream.latency.p50)
    assert stream.latency.frames == 0
    for piece in noise(small, 20 * small.frame_size).samples.split(100, 1):
        stream.decode(stream.encode(piece))
    latency = stream.latency
    assert latency.algorithmic == small.latency == 0.04
    assert 0 < latency.p50 <= latency.p99 < 10
    assert latency.frames == 19  # the last waits for what follows it


@pytest.mark.parametrize("block", [1, 8])
def test_a_buffer_may_be_filled_again_after_a_call(small: Codec, block: int):
    wave, size = noise(small, 9 * small.frame_size).samples, 3 * small.frame_size // 2
    alone, reusing = Stream(small, block=block), Stream(small, block=block)
    right = joined([alone.encode(wave), alone.finish_encode()])
    heard = joined([alone.decode(right), alone.finish_decode()])
    buffer, codes = torch.zeros(1, size), []
    for piece in wave.split(size, 1):
        buffer.copy_(piece)
        codes.append(reusing.encode(buffer))
    assert torch.equal(joined([*codes, reusing.finish_encode()]), right)
    tokens, waves = np.zeros((small.codebooks, 3), np.int64), []
    for piece in right.split(3, 1):
        tokens[:] = piece
        waves.append(reusing.decode(tokens))
    assert torch.equal(joined([*waves, reusing.finish_decode()]), heard)


def test_what_has_ended_ends_once_and_takes_no_more(small: Codec):
    wave = noise(small, 2345).samples
    stream = Stream(small)
    codes = joined([stream.encode(wave), stream.finish_encode()])
    assert_ended(stream, codes, joined([stream.decode(codes), stream.finish_decode()]))
    again = Stream.restore(small, stream.snapshot())
    assert_ended(again, codes, stream.decode(codes[:, :0]))
    stream.reset()
    assert torch.equal(joined([stream.encode(wave), stream.finish_encode()]), codes)


def assert_ended(stream: Stream, codes: Tensor, wave: Tensor) -> None:
    assert stream.finish_encode().shape[1] == stream.finish_decode().shape[1] == 0
    with pytest.raises(ValueError, match=r"^this stream has ended: start another, or reset it$"):
        stream.encode(wave if wave.shape[1] else torch.zeros(1, 7))
    with pytest.raises(ValueError, match=r"^this stream has ended"):
        stream.decode(codes)


def test_a_batch_takes_streams_of_its_codec_only(small: Codec):
    torch.manual_seed(1)
    other = Stream(ready(Speech(SMALL)))
    with pytest.raises(ValueError, match="cannot step beside"):
        StreamBatch(small).encode({other: torch.zeros(1, 320)})
    assert StreamBatch(small).encode({}) == {}


# -- windows, for codecs that need the whole recording ---------------------------------------------


@pytest.fixture(params=["speechtokenizer", "wavtokenizer"])
def whole(request: pytest.FixtureRequest) -> Codec:
    return made(request.param, SIZES[request.param][0])


def test_a_window_over_everything_is_the_whole(whole: Codec):
    audio = noise(whole, 30 * whole.frame_size + 17)
    seconds = 40 / float(whole.frame_rate)
    assert window.loss(whole, audio, seconds) == window.Loss(0, 0, math.inf)


def test_windows_keep_length_and_order(whole: Codec):
    audio = noise(whole, 60 * whole.frame_size + 17)
    context = 10 / float(whole.frame_rate)
    stream, arrived, waits, heard = Stream(whole, context=context), 0, [], 0
    for piece in audio.samples.split(7, 1):
        arrived += piece.shape[1]
        made = stream.decode(stream.encode(piece)).shape[1]
        if made:
            waits.append(arrived - heard)
        heard += made
    rest = stream.finish()[1]
    assert heard + rest.shape[1] == len(audio)
    assert_ended(stream, torch.zeros(whole.codebooks, 1, dtype=torch.long), rest)
    assert max(waits) - stream.latency.algorithmic * whole.sample_rate < 7
    assert max(waits) > 0.9 * stream.latency.algorithmic * whole.sample_rate


def test_windows_lose_something_and_say_how_much(whole: Codec):
    lost = window.loss(whole, noise(whole, 60 * whole.frame_size), 5 / float(whole.frame_rate))
    # WavTokenizer's encoder sees no further than its windows; its decoder does.
    assert (lost.codes > 0) == (whole.name == "speechtokenizer")
    assert lost.first <= lost.codes * whole.codebooks
    assert lost.snr is not None
    assert math.isfinite(lost.snr)
    with pytest.raises(ValueError, match="at least one is needed"):
        window.loss(whole, noise(whole, 4000), 0)


def test_context_is_for_those_that_need_it(small: Codec, whole: Codec):
    with pytest.raises(ValueError, match=r"^codec 'speech' streams exactly"):
        Stream(small, context=1.0)
    with pytest.raises(ValueError, match=r"hears a recording to its end.*context=SECONDS"):
        Stream(whole)
