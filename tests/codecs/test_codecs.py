"""Codecs: the contract over every one there is, and what our own promises besides."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import contracts
import numpy as np
import pytest
import torch
from contracts import noise
from hypothesis import given, settings
from hypothesis import strategies as st
from sizes import CODECS, FOLDED, SIZES, SMALL, is_large, made, ready
from torch import nn

from audiotok._platform.registry import find, names
from audiotok.audio.audio import Audio
from audiotok.codecs.checkpoint import load, save, weights_of
from audiotok.codecs.models.base import Codec, WrongTokensError
from audiotok.codecs.models.speech import Speech
from audiotok.codecs.taxonomy import Taxonomy
from audiotok.nn.quantizers.base import NoTableError
from audiotok.nn.quantizers.segment_rvq import SegmentRvq
from audiotok.runtime.files import decode_file, encode_file
from audiotok.runtime.stream import Stream
from audiotok.tokens.tokenizer import warn_mixing_down
from audiotok.tokens.tokens import Tokens


@pytest.fixture(scope="module", params=CODECS, ids=lambda p: p[0])
def codec(request: pytest.FixtureRequest) -> Codec:
    return made(*request.param)


@pytest.fixture(scope="module")
def small() -> Codec:
    return made("speech", SMALL)


# -- the contract -----------------------------------------------------------------------------


def test_lengths_are_exact(codec: Codec):
    frame, block = codec.frame_size, codec.block * codec.frame_size
    edges = [0, 1, 2, frame // 2 - 1, frame // 2, frame // 2 + 1, frame - 1, frame, frame + 1]
    contracts.assert_lengths_exact(codec, [*edges, 12345, block - 1, block, block + 1])


@settings(max_examples=25, deadline=None)
@given(samples=st.integers(0, 50_000))
def test_any_length_is_exact(small: Codec, samples: int):
    contracts.assert_lengths_exact(small, [samples])


def test_a_stream_gives_what_the_whole_gives(codec: Codec):
    if math.isfinite(codec.latency):
        frames, examples = (60, 2) if is_large(codec) else (30, 6)
        audio = noise(codec, frames * codec.frame_size + 123)
        contracts.assert_live(codec, audio, examples=examples)


def test_latency_is_computed_once_for_its_layers(monkeypatch: pytest.MonkeyPatch):
    codec = made("longcat", SIZES["longcat"][0])
    latency, spans = codec.latency, codec.decoder.input_span
    counted = []
    monkeypatch.setattr(codec.decoder, "input_span", lambda *at: counted.append(at) or spans(*at))
    assert codec.latency == latency
    assert not counted
    other = made("longcat", SIZES["longcat"][1])
    codec.period = other.period = 3 * codec.period
    assert codec.latency == made("longcat", SIZES["longcat"][0]).latency
    assert counted
    codec.decoder = other.decoder
    assert codec.latency == other.latency != latency


def test_a_codec_that_needs_the_whole_cannot_stream(codec: Codec):
    """Of the published ones all that are not causal but those whose look-ahead is bounded."""
    assert codec.constant_memory == math.isfinite(codec.latency)
    bounded = (
        codec.name in ("clam", "dac", "nanocodec", "snac", "stable_codec", "vocos")
        or (codec.name == "encodec" and not codec.config.group_norm)
        or getattr(codec.config, "segment", 0) > 0
    )
    assert codec.constant_memory == (codec.causal or bounded)
    if not codec.constant_memory:
        with pytest.raises(ValueError, match=f"^codec '{codec.name}' hears a recording"):
            Stream(codec)


def test_any_cutting_gives_the_same_bits(codec: Codec):
    audio = noise(codec, 2 * codec.block * codec.frame_size + 1234)
    contracts.assert_cuttable(codec, audio, examples=5 if is_large(codec) else 15)


def test_a_batch_gives_each_what_it_gets_alone(codec: Codec):
    lengths = [30_000, 1, 0, 12_345, 20_480, 320]
    contracts.assert_batches(codec, [noise(codec, n) for n in lengths])


def test_side_by_side_only_near_ties_differ(
    codec: Codec, record_property: Callable[[str, object], None]
):
    lengths = [n * codec.frame_size // 320 for n in (80_000, 75_001, 45_000, 79_999, 45_000)]
    audios = [noise(codec, n, seed=i) for i, n in enumerate([*lengths, 0, 1])]
    record_property("near-ties", contracts.assert_groups(codec, audios, group=3))


def test_ragged_tensors_give_each_what_it_gets_alone(codec: Codec):
    contracts.assert_tensors(codec)


def test_gradients_of_ragged_tensors_are_those_of_each_alone(codec: Codec):
    contracts.assert_differentiable(codec)


def test_sixteen_clips_are_coded_as_each_alone(small: Codec):
    contracts.assert_tensors(small, 16)
    contracts.assert_differentiable(small, 16)


def test_embeddings_add_up_to_latents(codec: Codec):
    if isinstance(codec.quantizer, SegmentRvq):
        with pytest.raises(NoTableError, match=r"^codes of segments do not decode to a sum"):
            codec.codebook_embeddings()
    else:
        contracts.assert_embeddings(codec)


def test_fewer_codebooks_are_the_first_ones(codec: Codec):
    contracts.assert_prefixes(codec, noise(codec, 12_345))
    for wrong in (0, codec.codebooks + 1):
        with pytest.raises(ValueError, match=f"^{wrong} codebooks asked for; there are 1 to"):
            codec.encode(noise(codec, 100), codebooks=wrong)


def test_a_causal_codec_does_not_see_the_future(codec: Codec):
    if codec.causal:
        contracts.assert_no_future(codec)


def test_latency_is_as_declared(codec: Codec):
    if math.isfinite(codec.latency):
        contracts.assert_latency(codec)


def test_the_receptive_field_is_as_declared(codec: Codec):
    contracts.assert_receptive_field(codec)


def test_training_reaches_every_parameter(codec: Codec):
    torch.manual_seed(0)
    contracts.assert_trains(type(codec)(codec.config))


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


def test_files_are_coded_as_recordings_are(codec: Codec, tmp_path: Path):
    """Read in blocks and written in blocks, also where the codec needs the whole first."""
    noise(codec, 70_000).save(tmp_path / "a.wav")
    encode_file(codec, tmp_path / "a.wav", tmp_path / "a.tok")
    tokens = Tokens.load(tmp_path / "a.tok")
    assert tokens == codec.encode(Audio.load(tmp_path / "a.wav"))
    decode_file(codec, tmp_path / "a.tok", tmp_path / "b.wav")
    decoded = Audio.load(tmp_path / "b.wav")
    assert (len(decoded), decoded.rate) == (codec.decoded_samples(70_000), codec.decoded_rate)
    written = codec.decode(tokens).samples.clamp(-1, 1)
    assert (decoded.samples - written).abs().max() <= 1 / 32768  # 16 bits


def test_a_checkpoint_builds_it_again(codec: Codec, tmp_path: Path):
    save(codec, tmp_path / "codec.safetensors")
    again = load(tmp_path / "codec.safetensors")
    assert (type(again), again.config) == (type(codec), codec.config)
    for key, value in codec.state_dict().items():
        contracts.assert_close(again.state_dict()[key], value, 1e-3)


# -- channels and rates -----------------------------------------------------------------------


def stereo(samples: int = 9000, rate: int = 16000) -> Audio:
    return Audio(0.1 * torch.randn(2, samples), rate)


def test_more_channels_are_mixed_down_and_that_is_said_once(
    small: Codec, caplog: pytest.LogCaptureFixture
):
    warn_mixing_down.cache_clear()
    audio = stereo()
    with caplog.at_level(logging.WARNING, "audiotok"):
        tokens = small.encode(audio)
        small.encode(audio)
    assert caplog.messages == ["2 channels are mixed down to one; split=True codes each by itself"]
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


@pytest.mark.parametrize("wrong", ["size", "frame_size", "sample_rate", "codebooks"])
def test_tokens_that_say_other_facts_than_their_codec_are_refused(small: Codec, wrong: str):
    tokens = small.encode(noise(small, 1000))
    twice = np.concatenate([tokens.codes, tokens.codes])
    other = {
        "size": {"size": 1 << 20, "codes": tokens.codes + (1 << 19)},
        "frame_size": {"frame_size": small.frame_size + 1},
        "sample_rate": {"sample_rate": 8000},
        "codebooks": {"codes": twice, "size": small.sizes[0]},
    }[wrong]
    with pytest.raises(WrongTokensError, match=f"^tokens that say .* {small.name!r} has"):
        small.decode(replace(tokens, **other))


def test_every_weight_is_named_by_one_of_two_fingerprints(small: Codec):
    """What makes codes by one, what makes sound by the other; the semantic head by neither."""
    codes, sound = small.fingerprint, small.decoder_fingerprint
    seen = set()
    for key, value in small.state_dict().items():
        before = value.clone()
        value.view(-1)[-1] += 1e-3
        now = small.fingerprint, small.decoder_fingerprint
        part = key.split(".")[0]
        assert (now[0] == codes) == (part in ("decoder", "semantic"))
        assert (now[1] == sound) == (part != "decoder")
        seen.add(now)
        value.copy_(before)
    assert (small.fingerprint, small.decoder_fingerprint) == (codes, sound)
    named = [key for key in small.state_dict() if not key.startswith("semantic")]
    assert len(seen) == 1 + len(named)
    torch.manual_seed(0)
    assert ready(Speech(SMALL)).fingerprint == codes


def test_tokens_decode_with_any_decoder_of_the_same_codes(small: Codec, tmp_path: Path):
    tokens = small.encode(noise(small, 1000))
    better = copy.deepcopy(small)
    next(better.decoder.parameters()).data.mul_(1.5)
    assert (better.encode(noise(small, 1000)).codes == tokens.codes).all()
    assert not better.decode(tokens).samples.equal(small.decode(tokens).samples)
    # And under the names that the codes had before, which a checkpoint keeps.
    before = replace(tokens, fingerprint="0123456789abcdef")
    with pytest.raises(WrongTokensError):
        better.decode(before)
    better.former_fingerprints = ("0123456789abcdef",)
    save(better, tmp_path / "better.safetensors", dtype=torch.float32)
    again = load(tmp_path / "better.safetensors")
    assert again.decode(before).samples.equal(better.decode(tokens).samples)
    assert again.encode(noise(small, 1000)).fingerprint == small.fingerprint


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


def test_a_first_codebook_of_its_own_hears_no_gain():
    codec = made("speech", FOLDED)
    audio = Audio(0.3 * noise(codec, 40_000).samples, codec.sample_rate)
    codes = codec.encode(audio).codes
    assert len(np.unique(codes[0])) > 5
    for gain in (0.25, 3.0):
        louder = codec.encode(Audio(gain * audio.samples, codec.sample_rate)).codes
        assert np.mean(louder[0] == codes[0]) > 0.95
        assert np.mean(louder[1:] == codes[1:]) < 0.9


@pytest.mark.parametrize("sizes", [{"fold": 3}, {"fold": 0}, {"semantic_features": 16}])
def test_sizes_of_speech_that_do_not_fit_are_refused(sizes: dict[str, Any]):
    with pytest.raises(ValueError, match=f"^{next(iter(sizes))}="):
        Speech(replace(SMALL, **sizes))


def test_speech_has_a_head_to_be_distilled(small: Codec):
    assert isinstance(small, Speech)
    quantized = small(noise(small, 3200).samples[None])[1]
    assert small.distilled(quantized.first).shape == (1, 10, SMALL.semantic)


@pytest.mark.parametrize(("name", "most"), [("speech", 20e6), ("music", 10e6)])
def test_the_weights_that_ship_are_small(name: str, most: float):
    path = weights_of(name)
    assert path is not None
    assert path.stat().st_size <= most


# -- the published ones -----------------------------------------------------------------------

# Parameters that its own program counts; WavTokenizer's without the decoder that nothing runs, and
# DualCodec's without the frozen w2v-BERT.
PUBLISHED = {
    "encodec_24khz": 14_851_810,
    "encodec_32khz": 56_884_674,
    "encodec_48khz": 14_856_294,
    "speechtokenizer": 103_675_586,
    "speechtokenizer_snake": 103_683_458,
    "dm_codec": 103_675_586,
    "dac_16khz": 74_175_906,
    "dac_24khz": 74_708_706,
    "dac_44khz": 76_651_890,
    "dac_44khz_16kbps": 64_213_250,
    "wavtokenizer_75hz": 71_750_146,
    "wavtokenizer_40hz": 72_111_714,
    "inspiremusic": 71_750_146,
    "hificodec_48khz": 62_582_306,  # without entries, which its program learns by gradient
    "hificodec_24khz": 62_582_306,
    "mimi": 79_308_609,
    "qwen3_tts_12hz": 153_714_657,
    "pocket_tts": 20_054_337,
    "vibevoice_acoustic": 687_392_001,
    "vibevoice_semantic": 344_613_600,
    "fish_s2": 391_430_530,
    "nanocodec": 61_729_725,
    "xcodec2": 629_281_706,
    "neucodec": 629_937_706,
    "longcat_16k": 699_147_394,  # two decoders of one encoder
    "longcat_24k": 687_590_530,
    "moss": 1_774_566_400,
    "dualcodec": 84_014_578,
    "dualcodec_25hz": 102_291_874,
    "voxcpm": 75_355_202,
    "voxtral": 298_942_996,
    "snac_24khz": 19_842_914,
    "xcodec": 160_698_625,
    "higgs_v2": 200_343_777,
    "snac_32khz": 54_546_338,
    "snac_44khz": 54_546_338,
    "stable_codec": 953_319_756,  # of the paper's sizes
    "vocos_encodec_24khz": 7_984_258,
    # Tokenizers: without what follows the quantizer, positions, and Ichigo's frozen Whisper.
    "beats": 91_099_248,
    "beats_random": 0,
    "dmel_40hz": 0,
    "dmel_80hz": 0,
    "s3_v1": 123_466_240,
    "s3_v1_25hz": 123_466_240,
    "s3_v2_25hz": 123_714_568,
    "s3_v3_25hz": 242_009_608,
    "glm4_voice": 320_227_840,
    "glm4_voice_30s": 320_227_840,
    "ichigo": 22_661_184,
    "tadicodec": 134_379_534,
    "units": 19_840_359,  # ours
    "units_50hz": 19_840_359,  # ours
    "units_12hz": 19_840_359,  # ours
    "speech": 8_877_475,  # ours
    "music": 3_985_379,  # ours
}
# Numbers among them that nothing runs, and that are not here: four maps of Qwen3-TTS's tokenizer,
# and the weights by which its decoder divides entries; of BEATs and HuBERT the lengths of a
# normalised weight, and of HuBERT an embedding of masked frames; w2v-BERT's feature of a masked
# frame; biases of keys in LongCat; the map to the deviations of VoxCPM's latents, which training
# samples by.
UNUSED = {
    "beats": 128,
    "qwen3_tts_12hz": 4 * 512 * 256 + 16 * 2048,
    "xcodec": 128 + 768,
    "higgs_v2": 128,
    "xcodec2": 1024,
    "neucodec": 1024,
    "longcat_16k": 26 * 1280,
    "longcat_24k": 26 * 1280,
    "voxcpm": 64 * (2048 * 3 + 2),
}
CAUSAL = (
    *("speech", "music"),
    *("encodec_24khz", "fish_s2", "mimi", "moss", "pocket_tts", "qwen3_tts_12hz"),
    *("vibevoice_acoustic", "vibevoice_semantic", "voxcpm", "voxtral"),
)
PRESETS = {name: part for part in names("codecs") for name in find("codecs", part).presets}


def test_every_preset_is_counted():
    assert PRESETS.keys() == PUBLISHED.keys()


@pytest.mark.parametrize("part", names("codecs"))
def test_every_codec_says_of_what_kind_it_is(part: str):
    """A class has a `Taxonomy` for each name, with a licence where weights are published."""
    kind = find("codecs", part)
    assert kind.taxonomy.keys() == {*(kind.presets or (part,))}
    for name, taxonomy in kind.taxonomy.items():
        published = taxonomy.published or name in kind.sources
        assert bool(taxonomy.licence) == bool(published), name


@pytest.mark.parametrize(
    "words", [{"training": "well"}, {"domain": "birds"}, {"encoder": ""}, {"training": "distilled"}]
)
def test_a_kind_that_there_is_not_is_refused(words: dict[str, Any]):
    kind: dict[str, Any] = {"encoder": "SEANet", "decoder": "SEANet", "quantizer": "RVQ"}
    kind |= {"training": "joint", "licence": "MIT"}
    with pytest.raises(ValueError, match=f"^{next(iter(words))} "):
        Taxonomy(**{**kind, **words})


@pytest.mark.parametrize("preset", PUBLISHED)
def test_published_sizes_and_rates(preset: str):
    kind = find("codecs", PRESETS[preset])
    with torch.device("meta"):
        codec = kind(kind.presets[preset])
        assert codec.parameters_trained == PUBLISHED[preset]
        modules = dict(codec.encoder.named_children())
        frozen = modules.get("whisper", modules.get("teacher", nn.Module()))
        fixed = sum(p.numel() for p in frozen.parameters()) - UNUSED.get(preset, 0)
        plain = sum(p.numel() for p in codec.parameters()) - fixed
        codec.split_weights()
    assert sum(p.numel() for p in codec.parameters()) - fixed == PUBLISHED[preset]
    # A plain weight is its length and direction in one.
    normed = any(True for _ in codec.weight_normed())
    assert normed <= PUBLISHED[preset] - plain <= normed * PUBLISHED[preset] / 1000
    entries = sum(b.numel() for key, b in codec.named_buffers() if key.endswith(".entries"))
    assert codec.parameters_total == PUBLISHED[preset] + fixed + entries
    assert codec.parameters_trained == PUBLISHED[preset]
    rates = {
        "encodec_24khz": (24000, 320, 24.0),
        "units": (16000, 640, 0.198),
        "units_50hz": (16000, 320, 0.396),
        "units_12hz": (16000, 1280, 0.119),
        "encodec_32khz": (32000, 640, 2.2),
        "encodec_48khz": (48000, 47520, 24.273),
        "dac_16khz": (16000, 320, 6.0),
        "dac_24khz": (24000, 320, 24.0),
        "dac_44khz": (44100, 512, 7.752),
        "dac_44khz_16kbps": (44100, 512, 15.504),
        "wavtokenizer_75hz": (24000, 320, 0.9),
        "wavtokenizer_40hz": (24000, 600, 0.48),
        "inspiremusic": (24000, 320, 0.9),
        "hificodec_48khz": (48000, 320, 6.0),
        "hificodec_24khz": (24000, 320, 3.0),
        "mimi": (24000, 1920, 4.4),
        "qwen3_tts_12hz": (24000, 1920, 2.2),
        "pocket_tts": (24000, 1920, 12.8),  # of latents, in single precision
        "vibevoice_acoustic": (24000, 3200, 15.36),
        "vibevoice_semantic": (24000, 3200, 30.72),
        "fish_s2": (44100, 2048, 2.196),
        "nanocodec": (22050, 1764, 0.599),
        "xcodec2": (16000, 320, 0.8),
        "neucodec": (16000, 320, 0.8),
        "moss": (24000, 1920, 4.0),
        "dualcodec": (24000, 1920, 1.225),
        "dualcodec_25hz": (24000, 960, 3.1),
        "voxcpm": (16000, 640, 51.2),
        "voxtral": (24000, 1920, 2.139),
        "longcat_16k": (16000, 960, 0.866),
        "longcat_24k": (16000, 960, 0.866),
        "snac_24khz": (24000, 2048, 0.984),
        "xcodec": (16000, 320, 4.0),
        "higgs_v2": (24000, 960, 2.0),
        "snac_32khz": (32000, 3072, 1.875),
        "snac_44khz": (44100, 3072, 2.584),
        "stable_codec": (16000, 640, 0.697),
        "vocos_encodec_24khz": (24000, 320, 12.0),
        "beats": (16000, 2560, 0.5),
        "beats_random": (16000, 2560, 0.5),
        "dmel_40hz": (16000, 400, 12.8),
        "dmel_80hz": (16000, 200, 25.6),
        "s3_v1": (16000, 320, 0.6),
        "s3_v1_25hz": (16000, 640, 0.3),
        "s3_v2_25hz": (16000, 640, 0.317),
        "s3_v3_25hz": (16000, 640, 0.317),
        "glm4_voice": (16000, 1280, 0.175),
        "glm4_voice_30s": (16000, 1280, 0.175),
        "ichigo": (16000, 640, 0.283),
        "tadicodec": (24000, 3840, 0.087),
        "music": (24000, 480, 6.0),
    }
    told = codec.sample_rate, codec.frame_size, round(codec.kbps, 3)
    assert told == rates.get(preset, (16000, 320, 4.0))
    assert codec.causal == (preset in CAUSAL)


@torch.no_grad()
def test_weights_split_and_fold(codec: Codec):
    """Weight normalisation is a way to train: folded, the same codec is left."""
    other = ready(type(codec)(codec.config))
    other.load_state_dict(codec.state_dict())
    other.split_weights()
    other.split_weights()  # once is enough
    split = [key for key in other.state_dict() if "parametrizations" in key]
    assert len(split) == 2 * len(list(codec.weight_normed()))
    other.fold_weights()
    assert other.state_dict().keys() == codec.state_dict().keys()
    for key, value in codec.state_dict().items():
        contracts.assert_close(other.state_dict()[key], value, 1e-6)


def test_sizes_may_come_from_toml_and_json():
    for name in ("encodec", "speechtokenizer", "dac", "wavtokenizer", "mimi", "snac", "vocos"):
        kind = find("codecs", name).config_type
        assert kind(strides=[2, 4]) == kind(strides=(2, 4))
    kind = find("codecs", "hificodec").config_type
    assert kind(strides=[2, 4]) == kind(strides=(2, 4))
    kind = find("codecs", "nanocodec").config_type
    assert kind(strides=[2, 4], levels=[4, 4]) == kind(strides=(2, 4), levels=(4, 4))
    kind = find("codecs", "xcodec").config_type
    assert kind(strides=[4, 80]) == kind(strides=(4, 80))
    kind = find("codecs", "xcodec2").config_type
    assert kind(strides=[32, 10], levels=[4, 4]) == kind(strides=(32, 10), levels=(4, 4))
    kind = find("codecs", "qwen3_tts_12hz").config_type
    lists = {"strides": [2, 4], "doublings": [2], "decoder_strides": [4, 2]}
    assert kind(**lists) == kind(**{key: tuple(value) for key, value in lists.items()})


def test_what_mirrors_streams_after_its_first_frames():
    codec = ready(find("codecs", "encodec")(SIZES["encodec"][0]))
    frame, stream = codec.frame_size, Stream(codec)
    audio = noise(codec, 12 * frame)
    made = [stream.encode(piece).shape[1] for piece in audio.samples.split(frame, 1)]
    assert (made, codec.first_frames) == ([0] * 6 + [7] + [1] * 5, 7)
    codes = torch.from_numpy(codec.encode(audio).codes.copy())
    heard = [stream.decode(code).shape[1] // frame for code in codes.split(1, 1)]
    assert heard == made


def test_every_codebook_can_be_distilled():
    """DM-Codec's teachers reach the encoder through any codebook, not the first alone."""
    codec = find("codecs", "speechtokenizer")(SIZES["speechtokenizer"][0])
    quantized = codec(noise(codec, 20 * codec.frame_size).samples[None])[1]
    parameters = list(codec.encoder.parameters())
    for stage in quantized.stages:
        feature = codec.distilled(stage)
        assert feature.shape == (1, 20, 8)
        grads = torch.autograd.grad(feature.square().sum(), parameters, retain_graph=True)
        assert all(grad.any() for grad in grads)
