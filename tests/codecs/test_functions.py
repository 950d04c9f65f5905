"""A codec of two functions keeps the contracts, and what its functions give is checked."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch

from audiotok.audio.audio import Audio
from audiotok.codecs import functions
from audiotok.codecs.checkpoint import CheckpointError, save
from audiotok.codecs.export.folder import export
from audiotok.codecs.functions import FunctionCodec, FunctionError
from audiotok.nn.quantizers.base import NoTableError
from audiotok.runtime.exported import ExportError
from audiotok.testing import (
    assert_batches,
    assert_cuttable,
    assert_lengths_exact,
    assert_prefixes,
    noise,
)

FRAME = 80


def encode(wave: torch.Tensor) -> torch.Tensor:
    frames = wave.view(len(wave), -1, FRAME)
    means = ((frames.mean((0, 2)).clamp(-1, 1) + 1) * 127.5).round().long()
    return torch.stack([means, (frames[0, :, 0] > 0).long()])


def decode(codes: torch.Tensor) -> torch.Tensor:
    wave = (codes[:1] / 127.5 - 1).repeat_interleave(FRAME, 1)
    if len(codes) > 1:
        wave[:, ::FRAME] += 0.01 * codes[1]
    return wave


def codec(**options: Any) -> FunctionCodec:
    given: dict[str, Any] = {
        "name": "means",
        "sample_rate": 8000,
        "frame_size": FRAME,
        "sizes": (256, 2),
        "encode": encode,
        "decode": decode,
        "weights": "1",
        "decodes_fewer": True,
    }
    return FunctionCodec(**given | options)


def test_it_keeps_the_contracts_of_codecs():
    mine = codec()
    assert_lengths_exact(mine, [0, 1, 79, 80, 81, 4000, 12345])
    assert_batches(mine, [noise(mine, n) for n in (3000, 1, 12345, 80)])
    assert_cuttable(mine, noise(mine, 4321), examples=5)
    assert_prefixes(mine, noise(mine, 4000))
    assert mine.latency == float("inf")


def test_long_audio_is_one_call():
    """A function is given the whole, although it is read in blocks."""
    lengths = []

    def spy(wave: torch.Tensor) -> torch.Tensor:
        lengths.append(wave.shape)
        return encode(wave)

    mine = codec(encode=spy)
    samples = 70 * 8000 + 3
    tokens = mine.encode(noise(mine, samples))
    assert lengths == [(1, -(-samples // FRAME) * FRAME)]
    assert len(mine.decode(tokens)) == samples


def test_two_channels_and_a_last_frame_that_is_not_filled_up():
    seen = []

    def both(wave: torch.Tensor) -> np.ndarray:
        seen.append(wave.shape)
        return np.zeros((1, -(-wave.shape[1] // FRAME)), np.uint16)

    def silence(codes: torch.Tensor) -> np.ndarray:
        return np.zeros((2, codes.shape[1] * FRAME), np.float64)

    options = {"sizes": (4,), "channels": 2, "fill_up": False}
    mine = codec(encode=both, decode=silence, **options)
    tokens = mine.encode(Audio(torch.zeros(2, 81), 8000))
    assert seen == [(2, 81)]
    assert tokens.codes.shape == (1, 2)
    decoded = mine.decode(tokens)
    assert decoded.samples.shape == (2, 81)
    assert decoded.samples.dtype == torch.float32


ZEROS = torch.zeros(2, 10, dtype=torch.int64)
ENCODED = {
    "floats": (ZEROS.float(), "values of float32 .*; wanted: integers"),
    "truths": (ZEROS.bool(), "values of bool .*; wanted: integers"),
    "a list": ([0, 1], "a list .*; wanted: a tensor or an array"),
    "nothing": (None, "a NoneType .*; wanted: a tensor or an array"),
    "a batch": (ZEROS[None], r"shape \[1, 2, 10\] for an input of \[1, 800\]; wanted: \[2, 10\]"),
    "too few codebooks": (ZEROS[:1], r"shape \[1, 10\] .*; wanted: \[2, 10\]"),
    "too many frames": (torch.zeros(2, 11).int(), r"shape \[2, 11\] .*; wanted: \[2, 10\]"),
    "a code too large": (ZEROS + 2, "codes 2 to 2 in codebook 1 .*; wanted: 0 to 1"),
    "a code below 0": (ZEROS.numpy() - 1, "codes -1 to -1 in codebook 0 .*; wanted: 0 to 255"),
}
WAVE = torch.zeros(1, 800)
DECODED = {
    "integers": (WAVE.short(), "samples of int16 .*; wanted: floats"),
    "a flat wave": (WAVE[0], r"shape \[800\] for an input of \[2, 10\]; wanted: \[1, 800\]"),
    "a short wave": (WAVE[:, 1:].numpy(), r"shape \[1, 799\] .*; wanted: \[1, 800\]"),
    "NaN": (WAVE.log() - WAVE.log(), "samples of NaN or infinity .*; wanted: finite ones"),
}


@pytest.mark.parametrize("fault", ENCODED)
def test_codes_are_checked(fault: str):
    value, message = ENCODED[fault]
    mine = codec(encode=lambda _: value)
    with pytest.raises(FunctionError, match=f"^encode of codec 'means' gave {message}"):
        mine.encode(noise(mine, 800))


@pytest.mark.parametrize("fault", DECODED)
def test_samples_are_checked(fault: str):
    value, message = DECODED[fault]
    mine = codec(decode=lambda _: value)
    tokens = mine.encode(noise(mine, 800))
    with pytest.raises(FunctionError, match=f"^decode of codec 'means' gave {message}"):
        mine.decode(tokens)


def test_a_function_that_fails_is_named():
    mine = codec(encode=lambda _: {}["weights"], decode=lambda _: 1 / 0)
    with pytest.raises(FunctionError, match=r"^encode of codec 'means' fails: KeyError: 'weights'"):
        mine.encode(noise(mine, 800))
    tokens = codec().encode(noise(mine, 800))
    with pytest.raises(FunctionError, match=r"^decode of codec 'means' fails: ZeroDivisionError"):
        mine.decode(tokens)


def test_fewer_codebooks_decode_only_where_the_function_says_so():
    whole = codec(decodes_fewer=False)
    tokens = whole.encode(noise(whole, 800), codebooks=1)
    with pytest.raises(FunctionError, match="'means' decodes all 2 codebooks, not the first 1 alo"):
        whole.decode(tokens)
    assert len(codec().decode(tokens)) == 800


def test_the_fingerprint_is_that_of_the_weights(tmp_path: Path):
    layer, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    file = tmp_path / "weights.bin"
    file.write_bytes(b"3")
    kinds = ["1", "2", layer, other, file]
    prints = [codec(weights=weights).fingerprint for weights in kinds]
    assert len({*prints}) == len(kinds)
    assert prints == [codec(weights=weights).fingerprint for weights in kinds]
    assert all(len(digits) == 16 and int(digits, 16) >= 0 for digits in prints)
    assert codec(frame_size=160).fingerprint != codec().fingerprint
    mine = codec(weights=layer)
    assert mine.parameters_total == 6
    with torch.no_grad():
        layer.weight += 1
    assert mine.fingerprint not in prints
    file.write_bytes(b"4")
    assert codec(weights=file).fingerprint not in prints


@pytest.mark.parametrize("weights", ["", torch.nn.Identity()])
def test_weights_that_identify_nothing_are_refused(weights: Any):
    with pytest.raises(ValueError, match=r"^codec 'means': weights that hold nothing cannot tell"):
        codec(weights=weights)


@pytest.mark.parametrize(
    "options", [{"sizes": ()}, {"sizes": (1,)}, {"sizes": (2**25,)}, {"frame_size": 0}]
)
def test_facts_that_no_codec_can_have(options: dict[str, Any]):
    with pytest.raises(ValueError, match=r"^codec 'means': "):
        codec(**options)


def test_what_needs_a_network_is_refused_in_a_line(tmp_path: Path):
    mine = codec()
    with pytest.raises(FunctionError, match="a codec of two functions cannot be trained"):
        mine(torch.zeros(1, 1, 800))
    with pytest.raises(CheckpointError, match="means has no config to build it from"):
        save(mine, tmp_path / "a.safetensors")
    with pytest.raises(ExportError, match="means is made of functions"):
        export(mine, tmp_path / "onnx")
    assert not list(tmp_path.iterdir())


def test_functions_run_on_the_device_and_without_gradients():
    devices = []

    def spy(wave: torch.Tensor) -> torch.Tensor:
        devices.append((wave.device.type, wave.dtype, torch.is_grad_enabled()))
        return encode(wave)

    mine = codec(encode=spy)
    mine.encode(noise(mine, 800))
    assert devices == [("cpu", torch.float32, False)]
    assert mine.to("meta").device.type == "meta"


def test_the_example_of_its_docstring():
    result = doctest.testmod(functions)
    assert result.attempted > 3
    assert not result.failed


def test_it_has_no_tables_of_its_codebooks():
    with pytest.raises(NoTableError, match=r"^a codec of two functions has no tables"):
        codec().codebook_embeddings()


@pytest.mark.parametrize(
    ("options", "error"),
    [({"weights": None}, "weights is a module, a Path or a text"), ({"sizes": 256}, "sizes is a")],
)
def test_what_it_is_made_of_is_named(
    options: dict[str, Any], error: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as it is for users
    with pytest.raises(TypeError, match=rf"^codec 'means': {error}"):
        codec(**options)
