"""Tokenizers without a decoder: every contract of codecs but decoding, and one clear refusal."""

from __future__ import annotations

import math
from pathlib import Path

import contracts
import numpy as np
import pytest
import torch
from commandline import audiotok
from contracts import noise
from sizes import SMALL, TOKENIZERS, made

from audiotok._platform.errors import InputError
from audiotok._platform.registry import UnknownPartError
from audiotok.audio.audio import Audio
from audiotok.codecs.catalogue import CheckpointError, facts
from audiotok.codecs.checkpoint import save
from audiotok.codecs.conformance import conform
from audiotok.codecs.load import load, load_decoder, names
from audiotok.codecs.models.base import Codec
from audiotok.evaluation.metrics.stoi import Stoi
from audiotok.nn.layers.kaldi_patches import KaldiPatches
from audiotok.runtime.files import decode_file, encode_file
from audiotok.runtime.stream import Stream
from audiotok.tokens.tokenizer import NoDecoderError, NoEncoderError, WrongTokensError
from audiotok.tokens.tokens import Tokens

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests/golden"


@pytest.fixture(scope="module", params=TOKENIZERS, ids=lambda p: p[0])
def codec(request: pytest.FixtureRequest) -> Codec:
    return made(*request.param)


def test_lengths_are_exact(codec: Codec):
    frame, block = codec.frame_size, codec.block * codec.frame_size
    edges = [0, 1, 2, frame // 2, frame - 1, frame, frame + 1, 2 * frame, 511, 512, 513, 514]
    contracts.assert_lengths_exact(codec, [*edges, 12345, block - 1, block, block + 1])


def test_any_cutting_gives_the_same_bits(codec: Codec):
    contracts.assert_cuttable(codec, noise(codec, 2 * codec.block * codec.frame_size + 1234))


def test_a_batch_gives_each_what_it_gets_alone(codec: Codec):
    contracts.assert_batches(codec, [noise(codec, n) for n in (30_000, 1, 0, 12_345, 20_480, 320)])


def test_streams_give_the_codes_of_the_whole(codec: Codec):
    if math.isfinite(codec.latency):
        contracts.assert_conversations(codec, noise(codec, 30 * codec.frame_size + 123))


def test_the_receptive_field_is_as_declared(codec: Codec):
    # A frame of BEATs that has no window's end after it is no frame that the others see.
    more = KaldiPatches().more if codec.name == "beats" else 0
    contracts.assert_receptive_field(codec, more=more)


def test_files_are_coded_as_recordings_are(codec: Codec, tmp_path: Path):
    noise(codec, 70_000).save(tmp_path / "a.wav")
    encode_file(codec, tmp_path / "a.wav", tmp_path / "a.tok")
    assert Tokens.load(tmp_path / "a.tok") == codec.encode(Audio.load(tmp_path / "a.wav"))
    with pytest.raises(NoDecoderError):
        decode_file(codec, tmp_path / "a.tok", tmp_path / "b.wav")
    assert not (tmp_path / "b.wav").exists()


def test_decoding_is_refused_in_one_line(codec: Codec):
    tokens = codec.encode(noise(codec, 5000))
    known = "".join(f", as {name}" for name in codec.decoders)
    says = f"^{codec.name}: a tokenizer without a decoder; name one that takes its tokens{known}$"
    for decode in (codec.decode, lambda t: codec.decode_batch([t])):
        with pytest.raises(NoDecoderError, match=says):
            decode(tokens)
    codes = torch.from_numpy(tokens.codes.copy())[None]
    with pytest.raises(NoDecoderError):
        codec.decode_tensors(codes)
    stream = Stream(codec, context=None if math.isfinite(codec.latency) else 1.0)
    with pytest.raises(NoDecoderError):
        stream.decode(tokens)


def test_it_conforms_and_says_what_it_lacks(codec: Codec):
    results = {result.check: result.verdict for result in conform(codec)}
    assert "fail" not in results.values()
    assert {results[check] for check in ("length", "batch", "chunk", "round trip")} == {"pass"}
    assert codec.facts().endswith(", no decoder")


def test_the_commands_take_it(tmp_path: Path):
    reading, tokens = ROOT / "egs/data/reading.flac", tmp_path / "reading.tok"
    assert audiotok("encode", reading, "--codec", "dmel_40hz", "-o", tokens).code == 0
    refused = audiotok("decode", tokens, "-o", tmp_path / "a.wav")
    says = (
        "dmel_40hz: a tokenizer without a decoder; name one that takes its tokens, as griffin_lim"
    )
    assert (refused.code, refused.lines) == (1, [f"error {tokens}: {says} (--decoder NAME)"])
    refused = audiotok("roundtrip", reading, "--codec", "dmel_40hz", "-o", tmp_path / "round")
    assert (refused.code, refused.lines) == (1, [f"error {says}"])
    assert {path.name for path in tmp_path.iterdir()} == {"reading.tok"}
    assert "conforms" in audiotok("conform", "dmel_40hz").out


def test_the_catalogue_counts_nothing_learnt():
    known = facts("dmel_40hz")
    assert known is not None
    assert (known["parameters"], known["entries"], known["decodes"]) == (0, 0, False)
    assert {"dmel_40hz", "dmel_80hz"} <= {*names("codecs")}


# -- dMel -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [40, 80])
def test_dmel_gives_the_codes_of_the_package(rate: int):
    """Stored by golden/dmel_codes.py: the package's codes of two seconds of reading."""
    audio = Audio.load(ROOT / "egs/data/reading.flac", start=1, end=3.01).resample(16000)
    with np.load(GOLDEN / "dmel_codes.npz") as stored:
        expected = stored[f"dmel_{rate}hz"]
    codes = load(f"dmel_{rate}hz").encode(audio).codes
    assert np.array_equal(codes, expected[:, : codes.shape[1]])
    assert expected.shape[1] - codes.shape[1] in (0, 1)  # a frame on the end of a whole number


def test_levels_are_half_a_step_from_what_was_there_at_most():
    codec, audio = load("dmel_40hz"), Audio.load(ROOT / "egs/data/reading.flac").resample(16000)
    mel = contracts.latents(codec, audio)
    decoded = codec.quantizer.decode(torch.from_numpy(codec.encode(audio).codes.copy())[None])[0]
    assert (decoded - mel.clamp(-7, 2)).abs().max() <= 0.3 + 1e-5


# -- decoders apart -------------------------------------------------------------------------------


def test_griffin_lim_gives_the_length_back_and_what_was_said(tmp_path: Path):
    reading = Audio.load(ROOT / "egs/data/reading.flac").resample(16000)
    codec, decoder = load("dmel_80hz"), load_decoder("griffin_lim", source="dmel_80hz")
    for length in (0, 1, 199, 200, 201, 12_345):
        assert len(decoder.decode(codec.encode(reading[:length]))) == length
    tokens = codec.encode(reading)
    decoded = decoder.decode(tokens)
    assert torch.equal(decoded.samples, decoder.decode_batch([tokens, tokens])[1].samples)
    assert Stoi().score(decoded, reading).value > 0.8
    codes = decoder.decode(tokens.codes, samples=tokens.samples)
    assert torch.equal(codes.samples, decoded.samples)


def test_griffin_lim_gives_each_side_by_side_what_it_gets_alone():
    codec, decoder = load("dmel_40hz"), load_decoder("griffin_lim_40hz")
    batch = [codec.encode(noise(codec, 3000, seed=seed)) for seed in range(7)]
    for tokens, beside in zip(batch, decoder.decode_batch(batch, group=4), strict=True):
        assert torch.equal(decoder.decode(tokens).samples, beside.samples)


def test_a_decoder_takes_the_tokens_of_its_tokenizer_only():
    decoder = load_decoder("griffin_lim_40hz")
    says = "tokens of 'dmel_80hz': decoder 'griffin_lim_40hz' takes those of 'dmel_40hz'"
    with pytest.raises(WrongTokensError, match=f"^{says}$"):
        decoder.decode(load("dmel_80hz").encode(noise(load("dmel_80hz"), 5000)))
    with pytest.raises(NoEncoderError, match="a decoder alone"):
        decoder.encode(noise(decoder, 5000))
    with pytest.raises(InputError, match="griffin_lim_40hz: no condition 'speaker'; it takes none"):
        decoder.conditioned(speaker=1)
    with pytest.raises(UnknownPartError):
        load_decoder("no_such")


def test_commands_decode_with_a_decoder_by_name(tmp_path: Path):
    reading, tokens = ROOT / "egs/data/reading.flac", tmp_path / "reading.tok"
    audiotok("encode", reading, "--codec", "dmel_40hz", "-o", tokens)
    wave = tmp_path / "a.wav"
    assert audiotok("decode", tokens, "-o", wave, "--decoder", "griffin_lim").code == 0
    assert len(Audio.load(wave)) == Tokens.load(tokens).samples
    again = audiotok("decode", tokens, "-o", wave, "--decoder", "griffin_lim")
    assert "1 skipped" in again.out + again.err or again.code == 0
    both = audiotok("decode", tokens, "--decoder", "griffin_lim", "--codec", "speech", "--force")
    assert both.code == 2


def test_a_checkpoint_of_a_decoder_is_loaded_as_one(tmp_path: Path):
    decoder = load_decoder("griffin_lim_40hz")
    save(decoder, tmp_path / "decoder.safetensors")
    again = load_decoder(tmp_path / "decoder.safetensors")
    assert (again.name, again.source) == (decoder.name, decoder.source)
    codec = made("speech", SMALL)
    save(codec, tmp_path / "codec.safetensors")
    with pytest.raises(CheckpointError, match="holds codec 'speech', no decoder alone"):
        load_decoder(tmp_path / "codec.safetensors")
