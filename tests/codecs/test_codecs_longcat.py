"""LongCat-Audio-Codec is what its own program computes, at any length and as a stream."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contracts import assert_close, near_ties, noise
from golden import longcat as golden
from sizes import SIZES, made
from test_state_dicts import table
from torch import Tensor

from audiotok._platform.registry import find
from audiotok.audio.audio import Audio
from audiotok.codecs.checkpoint import CheckpointError, load, save
from audiotok.codecs.models.longcat import JOINED, SEMANTIC, Config, Longcat
from audiotok.nn.pretrained.state_dicts import StateDictError, check
from audiotok.runtime.stream import Stream

KINDS = list(golden.RATES)
FILES = {"encoder": "encoder.pt", "16k": "decoder_16k.pt", "24k": "decoder_24k.pt"}
Files = dict[str, dict[str, Tensor]]


@pytest.fixture(scope="module")
def files(stored: dict[str, np.ndarray]) -> Files:
    """The program's weights, file by file."""
    gains = json.loads(str(stored["gains"]))
    shapes = json.loads(str(stored["shapes"]))
    parts = {
        name: golden.weights(
            own, {k: v for k, v in gains.items() if k in own and name != "encoder"}
        )
        for name, own in shapes.items()
    }
    entries = torch.from_numpy(stored["entries"])
    parts["encoder"]["semantic_tokenizer.kmeans.codebook"] = entries
    return parts


@pytest.fixture(scope="module")
def folder(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files as they are published."""
    folder = tmp_path_factory.mktemp("published")
    for name, state in files.items():
        torch.save(state, folder / FILES[name])
    np.save(folder / "cmvn.npy", golden.sums())
    return folder


def of(folder: Path, kind: str) -> Longcat:
    return Longcat.joined(folder / FILES["encoder"], folder / FILES[kind], folder / "cmvn.npy")


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def codec(folder: Path, kind: str) -> Longcat:
    return of(folder, kind)


def audio_of(samples: int) -> Audio:
    return Audio(golden.noise(samples)[0], 16000)


@pytest.mark.parametrize("samples", golden.LENGTHS)
def test_codes_and_waves_are_those_of_the_program(
    codec: Longcat, kind: str, stored: dict[str, np.ndarray], samples: int
):
    theirs = stored[f"codes {samples}"].astype(np.int64)
    audio = audio_of(samples)
    tokens = codec.encode(audio)
    assert tokens.codes.shape == theirs.shape
    assert near_ties(codec, audio, tokens.codes, theirs) <= 1
    wave = torch.from_numpy(stored[f"{kind} wave {samples}"])[:, : codec.decoded_samples(samples)]
    assert_close(codec.decode(replace(tokens, codes=theirs)).samples, wave, 1e-5)


def test_two_of_four_codes_decode_as_in_the_program(
    codec: Longcat, kind: str, stored: dict[str, np.ndarray]
):
    codes = stored[f"codes {golden.LENGTHS[-1]}"].astype(np.int64)[:2, :4]
    wave = torch.from_numpy(stored[f"{kind} prefix"])
    assert_close(codec.decode(codes).samples, wave, 1e-5)


def test_sizes_and_names(codec: Longcat, kind: str):
    config = Config(**SMALL[kind])
    assert codec.config == config
    assert codec.sizes == (64, 8100, 8100, 8100)
    assert (codec.sample_rate, codec.decoded_rate) == (16000, golden.RATES[kind])
    assert codec.frame_rate == Fraction(16000, 960)


SMALL: dict[str, dict[str, Any]] = {
    kind: {
        "encoder": 4,
        "latent": 24,
        "semantic": 128,
        "layers": 2,
        "semantic_size": 64,
        "decoder": 32,
        "decoder_strides": golden.RATIOS[kind],
    }
    for kind in KINDS
}


def test_a_semantic_code_alone_decodes(codec: Longcat):
    """As if the acoustic latent were zero."""
    tokens = codec.encode(audio_of(20 * codec.frame_size))
    wave = codec.decode(tokens.first(1)).samples
    latent = codec.quantizer.decode(torch.from_numpy(tokens.codes[None].copy()))
    latent[:, codec.config.semantic :] = 0
    assert_close(wave, codec.decode_latents(latent).waves[0], 1e-5)
    assert wave.std() > 0.01


def test_the_decoder_looks_three_frames_ahead(codec: Longcat, kind: str):
    """At 24 kHz no sample depends on more than the three frames after its own: 180 ms.

    The decoder of 16 kHz has convolutions that look ahead after the first: ten frames.
    """
    latent = torch.randn(1, codec.config.semantic + codec.config.latent, 24)
    latent[:, :, 12] = torch.nan
    first = int(codec.waves(latent)[0, 0].isnan().nonzero()[0])
    assert codec.decoder.input_span(first, first)[1] == 12
    assert codec.decoder.input_span(first - 1, first - 1)[1] == 11
    assert 12 - first // codec.decoded_frame_size == {"16k": 10, "24k": 3}[kind]
    assert kind == "16k" or first == 9 * codec.decoded_frame_size


def test_segments_are_coded_by_themselves():
    """Semantic codes of 30 s are those of that segment alone; acoustic ones go on."""
    short = made("longcat", replace(SIZES["longcat"][0], segment=10))
    audio = noise(short, 25 * short.frame_size)
    codes = short.encode(audio).codes
    size = 10 * short.frame_size
    alone = [short.encode(audio[i : i + size]).codes for i in range(0, len(audio), size)]
    assert np.array_equal(codes[0], np.concatenate([own[0] for own in alone]))
    assert not np.array_equal(codes[1], np.concatenate([own[1] for own in alone]))


def test_decoding_streams_behind_its_look_ahead(codec: Longcat, kind: str):
    tokens = codec.encode(audio_of(40 * codec.frame_size))
    stream, done = Stream(codec), 0
    codes = torch.from_numpy(tokens.codes.copy())
    pieces = []
    for i, frame in enumerate(codes.split(1, 1)):
        pieces.append(stream.decode(frame))
        done += pieces[-1].shape[1]
        assert done >= (i + 1 - {"16k": 11, "24k": 3}[kind]) * codec.decoded_frame_size
    wave = torch.cat([*pieces, stream.finish_decode()], 1)
    assert_close(wave, codec.decode(tokens).samples, 1e-5)


def test_one_file_is_made_of_two(folder: Path, codec: Longcat, kind: str, tmp_path: Path):
    save(codec, tmp_path / "ours.safetensors", dtype=torch.float32)
    again = load(tmp_path / "ours.safetensors")
    assert (again.fingerprint, again.config) == (codec.fingerprint, codec.config)
    for name in ("encoder", kind):
        with pytest.raises(CheckpointError, match=r"Longcat\.joined\(encoder, decoder, cmvn\) of "):
            load(folder / FILES[name])


def test_files_that_do_not_fit_are_refused(folder: Path, files: Files, tmp_path: Path):
    encoder, decoder = folder / FILES["encoder"], folder / FILES["16k"]
    with pytest.raises(
        StateDictError, match=r"decoder_16k\.pt: no weights of LongCat.* is missing"
    ):
        Longcat.joined(decoder, decoder, folder / "cmvn.npy")
    with pytest.raises(StateDictError, match=r"missing: .*cmvn|missing: .*\.mean"):
        Longcat.joined(encoder, decoder)
    torch.save(files["16k"] | {"decoder.model.9.bias": torch.ones(3)}, tmp_path / "more.pt")
    with pytest.raises(StateDictError, match=r"unexpected: decoder\.model\.9\.bias$"):
        Longcat.joined(encoder, tmp_path / "more.pt", folder / "cmvn.npy")
    books = [name for name in files["16k"] if re.match(r"acoustic_quantizer\.quantizers\.0", name)]
    torch.save(files["16k"] | {books[0]: files["16k"][books[0]] + 1}, tmp_path / "other.pt")
    with pytest.raises(StateDictError, match=r"other\.pt: made for other codes than .*encoder\.pt"):
        Longcat.joined(encoder, tmp_path / "other.pt", folder / "cmvn.npy")
    fewer = {k: v for k, v in files["24k"].items() if not re.match(r".*quantizers\.[12]\.", k)}
    torch.save(fewer, tmp_path / "fewer.pt")
    codec = Longcat.joined(encoder, tmp_path / "fewer.pt", folder / "cmvn.npy")
    assert codec.sizes == (64, 8100)
    np.save(tmp_path / "sums.npy", np.ones((2, 80)))
    with pytest.raises(StateDictError, match=r"sums of shape \(2, 80\), not \(2, 81\)$"):
        Longcat.joined(encoder, decoder, tmp_path / "sums.npy")


def test_parameters_of_the_parts():
    """Those that its program counts; the decoder's as published."""
    for name, decoder in (("longcat_16k", 151_888_994), ("longcat_24k", 140_332_130)):
        with torch.device("meta"):
            codec: Any = find("codecs", "longcat")(Longcat.presets[name])
            codec.split_weights()
        encoders = codec.encoder
        counts = {
            part: sum(p.numel() for p in module.parameters())
            for part, module in (
                ("acoustic encoder", encoders.get_submodule("layers.1")),
                ("acoustic codebooks", codec.quantizer.get_submodule("parts.1")),
                ("semantic entries", codec.quantizer.get_submodule("parts.0")),
                ("decoder", codec.decoder),
            )
        }
        assert counts == {
            "acoustic encoder": 21_881_984,
            "acoustic codebooks": 84_288,
            "semantic entries": 10_485_760,
            "decoder": decoder,
        }


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_published_names_and_shapes(kind: str):
    """Of all but the semantic encoder, whose size its configuration tells."""
    tables = {
        "longcat_acoustic_encoder": "encoder.",
        "longcat_agrvq3": "acoustic_quantizer.",
        f"longcat_decoder_{kind}": "decoder.",
    }
    with torch.device("meta"):
        theirs = {
            f"{prefix}{name.replace('weight_v', 'weight')}": torch.ones(shape)
            for part, prefix in tables.items()
            for name, shape in table(part).items()
            if not name.endswith("weight_g")  # lengths fold into directions
        }
        theirs["semantic_tokenizer.kmeans.codebook"] = torch.ones(1280, 8192)
        theirs["semantic_dequantizer.dequant.weight"] = torch.ones(8192, 1280)
        weights, origin = JOINED.translate(theirs)
        codec = find("codecs", "longcat")(Longcat.presets[f"longcat_{kind}"])
        wanted = {k: v for k, v in codec.state_dict().items() if not k.startswith(SEMANTIC)}
        check(weights, wanted, origin)
        assert replace(Config(**JOINED.sizes(weights, {})), layers=26) == codec.config
