"""Codecs: the contract over every one there is, and what our own promises besides."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import contracts
import numpy as np
import pytest
import torch
from contracts import noise
from hypothesis import given, settings
from hypothesis import strategies as st

from audiotok.audio import Audio
from audiotok.checkpoint import weights_of
from audiotok.codecs.base import Codec, WrongTokensError, mixing_down
from audiotok.codecs.speech import Config, Speech
from audiotok.pieces import BLOCK
from audiotok.registry import find, names
from audiotok.stream import Stream

SMALL = Config(
    encoder=32,
    encoder_blocks=3,
    decoder=32,
    decoder_blocks=2,
    window=5,
    heads=2,
    latent=16,
    codebooks=4,
    size=64,
    semantic=8,
)


def ready(codec: Codec) -> Codec:
    return codec.eval().requires_grad_(False)


@pytest.fixture(scope="module", params=names("codecs"))
def codec(request: pytest.FixtureRequest) -> Codec:
    torch.manual_seed(0)
    return ready(find("codecs", request.param)())


@pytest.fixture(scope="module")
def small() -> Codec:
    torch.manual_seed(0)
    return ready(Speech(SMALL))


# -- the contract -----------------------------------------------------------------------------


def test_lengths_are_exact(codec: Codec):
    frame, block = codec.frame_size, BLOCK * codec.frame_size
    edges = [0, 1, 2, frame // 2 - 1, frame // 2, frame // 2 + 1, frame - 1, frame, frame + 1]
    contracts.assert_lengths_exact(codec, [*edges, 12345, block - 1, block, block + 1])


@settings(max_examples=25, deadline=None)
@given(samples=st.integers(0, 50_000))
def test_any_length_is_exact(small: Codec, samples: int):
    contracts.assert_lengths_exact(small, [samples])


def test_a_stream_gives_what_the_whole_gives(codec: Codec, small: Codec):
    for each, examples in ((codec, 2), (small, 20)):
        contracts.assert_live(each, noise(each, 60 * each.frame_size + 123), examples=examples)


def test_a_codec_that_is_not_causal_cannot_stream(small: Codec, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(small, "causal", False)
    with pytest.raises(ValueError, match="looks ahead"):
        Stream(small)


def test_any_cutting_gives_the_same_bits(codec: Codec, small: Codec):
    for each, examples in ((codec, 5), (small, 40)):
        samples = 2 * BLOCK * each.frame_size + 1234
        contracts.assert_cuttable(each, noise(each, samples), examples=examples)


def test_a_batch_gives_each_what_it_gets_alone(codec: Codec):
    lengths = [30_000, 1, 0, 12_345, 20_480, 320]
    contracts.assert_batches(codec, [noise(codec, n) for n in lengths])


def test_side_by_side_only_near_ties_differ(
    codec: Codec, small: Codec, record_property: Callable[[str, object], None]
):
    lengths = [160_000, 1, 150_001, 90_000, 0, 159_999]
    for each in (small, codec):
        differ = contracts.assert_groups(each, [noise(each, n) for n in lengths], group=3)
        record_property("near-ties", differ)


def test_fewer_codebooks_are_the_first_ones(codec: Codec):
    contracts.assert_prefixes(codec, noise(codec, 12_345))
    for wrong in (0, codec.codebooks + 1):
        with pytest.raises(ValueError, match=f"^{wrong} codebooks asked for; there are 1 to"):
            codec.encode(noise(codec, 100), codebooks=wrong)


def test_a_causal_codec_does_not_see_the_future(codec: Codec):
    if codec.causal:
        contracts.assert_no_future(codec)


def test_latency_is_as_declared(codec: Codec):
    if codec.causal:
        contracts.assert_latency(codec)


def test_the_receptive_field_is_as_declared(codec: Codec, small: Codec):
    contracts.assert_receptive_field(small)
    contracts.assert_receptive_field(codec)


def test_training_codes_are_the_encoders(codec: Codec):
    """`forward` lies on the same frames and samples as encode and decode do."""
    audio = noise(codec, 40 * codec.frame_size)
    made, quantized = codec(audio.samples[None])
    tokens = codec.encode(audio)
    assert np.mean(quantized.codes[0].numpy() == tokens.codes) > 0.999
    decoded = codec.decode(replace(tokens, codes=quantized.codes[0].numpy()))
    contracts.assert_close(made[0], decoded.samples, 1e-4)


def test_silence_and_a_single_sample_are_audio(codec: Codec):
    for samples in (torch.zeros(1, 5000), torch.ones(1, 1), torch.full((1, 999), 1e-30)):
        tokens = codec.encode(Audio(samples.expand(codec.channels, -1), codec.sample_rate))
        again = codec.encode(Audio(samples.expand(codec.channels, -1), codec.sample_rate))
        assert tokens == again
        assert codec.decode(tokens).samples.isfinite().all()


def test_threads_share_a_codec(codec: Codec):
    audios = [noise(codec, n, seed=n) for n in (30_000, 29_000, 21_000, 33_333)]
    alone = [codec.encode(audio) for audio in audios]
    with ThreadPoolExecutor(2) as workers:
        assert list(workers.map(codec.encode, audios)) == alone
        decoded = list(workers.map(codec.decode, alone))
    for one, tokens in zip(decoded, alone, strict=True):
        assert torch.equal(one.samples, codec.decode(tokens).samples)


# -- channels and rates -----------------------------------------------------------------------


def stereo(samples: int = 9000, rate: int = 16000) -> Audio:
    return Audio(0.1 * torch.randn(2, samples), rate)


def test_more_channels_are_mixed_down_and_that_is_said_once(
    small: Codec, caplog: pytest.LogCaptureFixture
):
    mixing_down.cache_clear()
    audio = stereo()
    with caplog.at_level(logging.WARNING, "audiotok"):
        tokens = small.encode(audio)
        small.encode(audio)
    assert caplog.messages == [
        "2 channels are mixed down to one; --channels split (split=True) codes each"
    ]
    mean = Audio(audio.samples.mean(0, keepdim=True), audio.rate)
    assert tokens == small.encode(mean)
    assert (tokens.channels, tokens.streams) == (1, 1)


def test_split_codes_each_channel_as_if_alone(small: Codec):
    audio = stereo(9001, 22050)
    tokens = small.encode(audio, split=True)
    assert (tokens.channels, tokens.streams) == (2, 2)
    decoded = small.decode(tokens, original_rate=True)
    assert decoded.samples.shape == (2, 9001)
    for number, channel in enumerate(audio.split()):
        alone = small.encode(channel)
        assert tokens.channel(number) == alone
        heard = small.decode(alone, original_rate=True).samples[0]
        assert torch.equal(decoded.samples[number], heard)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
def test_the_original_rate_gives_the_original_length(small: Codec, rate: int):
    for samples in (0, 1, 777, 12_345):
        audio = Audio(0.1 * torch.randn(1, samples), rate)
        tokens = small.encode(audio)
        assert (tokens.original_rate, tokens.original_samples) == (rate, samples)
        assert tokens.samples == -(-samples * 16000 // rate)
        decoded = small.decode(tokens, original_rate=True)
        assert (decoded.rate, len(decoded)) == (rate, samples)


# -- whose tokens these are -------------------------------------------------------------------


def test_tokens_of_another_codec_are_refused(small: Codec):
    tokens = small.encode(noise(small, 1000))
    with pytest.raises(
        WrongTokensError,
        match=r"^tokens of codec 'mimi', not 'speech': decode them with audiotok.load\('mimi'\)",
    ):
        small.decode(replace(tokens, codec="mimi"))


def test_tokens_of_other_weights_are_refused(small: Codec):
    tokens = small.encode(noise(small, 1000))
    torch.manual_seed(1)
    other = ready(Speech(SMALL))
    with pytest.raises(
        WrongTokensError,
        match=f"^tokens of other weights of 'speech' \\({small.fingerprint}, these are "
        f"{other.fingerprint}\\): give the checkpoint that made them, or encode again$",
    ):
        other.decode(tokens)


def test_any_weight_changes_the_fingerprint(small: Codec):
    seen = {small.fingerprint}
    for value in small.state_dict().values():
        before = value.clone()
        value.view(-1)[-1] += 1e-3
        seen.add(small.fingerprint)
        value.copy_(before)
        assert small.fingerprint in seen
    assert len(seen) == 1 + len(small.state_dict())
    torch.manual_seed(0)
    assert ready(Speech(SMALL)).fingerprint == small.fingerprint


# -- our own codec ----------------------------------------------------------------------------


def test_speech_is_what_it_says():
    speech = Speech()
    assert (speech.sample_rate, speech.frame_size, speech.frame_rate) == (16000, 320, 50)
    assert speech.sizes == (1024,) * 8
    assert speech.causal
    assert speech.latency <= 0.040
    assert 6e6 <= speech.parameters_total <= 12e6
    tokens = ready(speech).encode(noise(speech, 16000))
    assert tokens.kbps == 4.0
    assert tokens.first(1).kbps == 0.5


def test_speech_has_a_head_to_be_distilled(small: Codec):
    assert isinstance(small, Speech)
    quantized = small(noise(small, 3200).samples[None])[1]
    assert small.distilled(quantized.first).shape == (1, 10, SMALL.semantic)


@pytest.mark.skipif(weights_of("speech") is None, reason="no weights ship yet")
def test_the_weights_that_ship_are_small():
    path = weights_of("speech")
    assert path is not None
    assert path.stat().st_size <= 20e6
