"""A decoder in 8-bit integers: the same codes, exact in pieces and batches, refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from commandline import audiotok
from sizes import LATENTS, SIZES, TOKENIZERS
from sizes import made as small

from audiotok import Audio, Stream, StreamBatch, load
from audiotok._platform.console import UsageError
from audiotok._platform.errors import InputError
from audiotok.codecs import int8 as module
from audiotok.codecs.export.folder import export
from audiotok.codecs.int8 import Int8Error, check_int8, decode_in_int8
from audiotok.codecs.models.base import Codec
from audiotok.nn import int8
from audiotok.nn.derived import Derived
from audiotok.nn.int8 import int8_linear, quantized
from audiotok.nn.linear import Linear
from audiotok.runtime.exported import ExportError
from audiotok.testing import (
    assert_batches,
    assert_conversations,
    assert_cuttable,
    assert_lengths_exact,
    noise,
)
from audiotok.tokens.tokenizer import NoDecoderError

ROOT = Path(__file__).parents[2]
RECORDING = ROOT / "egs" / "data" / "reading.flac"


def gains() -> bool:
    try:
        check_int8()
    except Int8Error:
        return False
    return True


FAST = pytest.mark.skipif(not gains(), reason="no CPU that multiplies 8-bit integers faster")


@pytest.fixture(scope="module", params=["shipped", "folded"])
def codec(request: pytest.FixtureRequest) -> Codec:
    if request.param == "shipped":
        return load("speech", precision="int8")
    torch.manual_seed(0)
    return decode_in_int8(small("speech", SIZES["speech"][2]))


# -- exactness ------------------------------------------------------------------------------------


@FAST
def test_what_every_codec_promises(codec: Codec):
    size = codec.frame_size
    assert_lengths_exact(codec, [0, 1, size, 5 * size + 3])
    audio = noise(codec, 150 * size + 5)
    assert_cuttable(codec, audio, examples=4)
    assert_batches(codec, [audio, audio[: 3 * size + 1], audio[:1]])
    # Attention is of floats, whose last bits can move a later integer by one.
    assert_conversations(codec, audio, tolerance=0.03)


@FAST
def test_streams_side_by_side_sound_as_alone_to_the_bit(codec: Codec):
    codes = torch.from_numpy(codec.encode(noise(codec, 20 * codec.frame_size)).codes.copy())
    alone, batch = Stream(codec), StreamBatch(codec)
    several = [batch.open() for _ in range(9)]
    for frame in codes.split(1, 1):
        one = alone.decode(frame)
        for other in batch.decode(dict.fromkeys(several, frame)).values():
            assert torch.equal(one, other)


@pytest.mark.parametrize("rows", [1, 2, 7, 8, 16, 17, 128])
def test_a_row_depends_on_itself_alone(rows: int):
    if not module._speed():
        pytest.skip("no exact products of 8-bit integers here")
    torch.manual_seed(0)
    x, bias = torch.randn(300, 96) * torch.logspace(-6, 3, 300)[:, None], torch.randn(203)
    weight = quantized(torch.randn(203, 96))
    whole = int8_linear(x, weight, bias)
    for first in range(0, 300 - rows, 37):
        part = slice(first, first + rows)
        assert torch.equal(int8_linear(x[part], weight, bias), whole[part])
    assert torch.equal(int8_linear(x[None, None], weight, bias)[0, 0], whole)
    mirrored = x.T.contiguous().T
    assert torch.equal(int8_linear(mirrored, weight, bias), whole)
    assert int8_linear(x[:0], weight, bias).shape == (0, 203)


def test_it_is_near_the_map_of_floats():
    torch.manual_seed(0)
    x, weight, bias = torch.randn(64, 384), torch.randn(200, 384), torch.randn(200)
    x[3], weight[5] = 0, 0
    exact = x @ weight.T + bias
    near = int8_linear(x, quantized(weight), bias)
    assert (near - exact).square().mean() < 2e-4 * exact.square().mean()
    assert torch.equal(near[3], bias)
    assert torch.equal(near[:, 5], bias[5].expand(64))


# -- what it is to a user -------------------------------------------------------------------------


@FAST
def test_codes_and_fingerprints_stay_and_the_sound_is_near():
    floats, integers = load("speech"), load("speech", precision="int8")
    audio = Audio.load(RECORDING).resample(floats.sample_rate)[:48000]
    tokens = floats.encode(audio)
    assert integers.encode(audio) == tokens
    assert integers.decoder_fingerprint == floats.decoder_fingerprint
    exact, near = floats.decode(tokens).samples, integers.decode(tokens).samples
    noise = 10 * torch.log10(exact.square().mean() / (exact - near).square().mean())
    assert 25 < noise < 40  # dB below the audio
    assert "decoder in int8" in repr(integers)
    assert "int8" not in repr(floats)


@FAST
def test_integers_follow_the_weights_and_gradients_are_of_floats():
    torch.manual_seed(0)
    layer = Linear(64, 32).requires_grad_(False)
    layer.int8 = Derived()
    x = torch.randn(5, 64)
    with torch.no_grad():
        before = layer(x)
        layer.weight.mul_(2)
        layer.bias.mul_(2)
        torch.testing.assert_close(layer(x), 2 * before)
    assert torch.equal(layer(x), layer(x.clone().requires_grad_()))
    assert not torch.equal(layer(x), 2 * before)


@FAST
def test_the_commands(tmp_path: Path):
    tokens, wave = tmp_path / "a.tok", tmp_path / "a.wav"
    codec = load("speech")
    codec.encode(Audio.load(RECORDING)[:32000]).save(tokens)
    decode = ("decode", tokens, "-o", wave, "--backend", "torch")
    assert audiotok(*decode).code == 0
    floats = Audio.load(wave)
    assert "exists already" in audiotok(*decode, "--precision", "int8").err
    assert audiotok(*decode, "--precision", "int8", "-f").code == 0
    integers = Audio.load(wave)
    assert len(integers) == len(floats)
    assert not torch.equal(integers.samples, floats.samples)
    assert "1 done already" in audiotok(*decode, "--precision", "int8").out
    onnx = (*decode[:-1], "onnx", "--precision", "int8", "-f")
    refused = audiotok(*onnx)
    assert refused.code == 1
    assert "backend onnx runs in float32, not in int8" in refused.err


@FAST
@pytest.mark.parametrize("name", ["pocket_tts", "vibevoice"])
def test_codecs_of_latents_are_judged_by_their_decoder(name: str, monkeypatch: pytest.MonkeyPatch):
    config = dict(reversed(LATENTS))[name]
    monkeypatch.setattr(module, "SHARE", 0.01)
    codec, floats = decode_in_int8(small(name, config)), small(name, config)
    latents = floats.encode(noise(floats, 20 * floats.frame_size))
    near, exact = codec.decode(latents).samples, floats.decode(latents).samples
    assert not torch.equal(near, exact)
    assert (near - exact).square().mean() < 0.01 * exact.square().mean()
    monkeypatch.setattr(module, "SHARE", 1.0)
    with pytest.raises(Int8Error, match=rf"gain little for {name}: \d+% of its"):
        decode_in_int8(small(name, config))


# -- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["encodec", "mimi", "dac"])
def test_a_decoder_of_other_things_is_refused(name: str):
    with pytest.raises(Int8Error, match=rf"gain little for {name}: \d+% of its"):
        decode_in_int8(small(name, SIZES[name][0]))


@pytest.mark.parametrize(
    ("speed", "message"),
    [(0.0, "no exact products of 8-bit integers on this CPU"), (1.1, "1.10 times as fast")],
)
def test_a_cpu_that_gains_nothing_is_refused(
    speed: float, message: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "_speed", lambda: speed)
    with pytest.raises(Int8Error, match=message):
        load("speech", precision="int8")


@pytest.mark.parametrize(("name", "config"), [TOKENIZERS[0], LATENTS[-1]])
def test_a_codec_without_a_decoder_is_refused_by_its_reason(name: str, config: Any):
    with pytest.raises(NoDecoderError, match=f"{name}: a tokenizer without a decoder"):
        decode_in_int8(small(name, config))


def test_sums_that_saturate_are_found(monkeypatch: pytest.MonkeyPatch):
    product = int8.PRODUCT
    monkeypatch.setattr(int8, "PRODUCT", lambda x, y: product(x, y).clamp(-(2**15), 2**15))
    assert not int8.is_exact(64)


def test_other_devices_types_and_backends_are_refused():
    weight = quantized(torch.randn(8, 8))
    with pytest.raises(InputError, match="not for float64 on cpu"):
        int8_linear(torch.randn(2, 8).double(), weight)
    with pytest.raises(Int8Error, match="speech on meta: 8-bit integers run on the CPU"):
        decode_in_int8(small("speech", SIZES["speech"][1]).to("meta"))
    with pytest.raises(UsageError, match="bfloat16: OpenVINO's; torch runs in float32 or int8"):
        load("speech", precision="bfloat16")


@FAST
def test_snapshots_and_exports_are_of_one_precision(tmp_path: Path):
    floats, codec = load("speech"), load("speech", precision="int8")
    snapshot = Stream(codec).snapshot()
    with pytest.raises(InputError, match="int8"):
        Stream.restore(floats, snapshot)
    with pytest.raises(ExportError, match="loaded in int8: load it in float32"):
        export(codec, tmp_path / "out")


def test_measuring_leaves_the_threads_as_they_were():
    threads = torch.get_num_threads()
    module._speed.__wrapped__()
    assert torch.get_num_threads() == threads
