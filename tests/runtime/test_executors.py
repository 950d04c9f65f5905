"""Contracts of codecs over all executors: torch, traced graphs, onnxruntime, OpenVINO."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sizes import SIZES
from sizes import made as small
from test_backends import as_exported

from audiotok import Stream, load
from audiotok.runtime.base import RunnableCodec
from audiotok.runtime.windows import loss
from audiotok.testing import (
    assert_batches,
    assert_conversations,
    assert_cuttable,
    assert_lengths_exact,
    noise,
)

CODECS = {"speech": 1, "encodec": 0, "mimi": 0, "speechtokenizer": 0}  # which of `SIZES`
EXPORTS = [*CODECS, "dac", "moss", "nanocodec", "qwen3_tts_12hz", "snac", "wavtokenizer"]
TESTS = Path(__file__).parents[1]
KINDS = ("torch", "graphs", "rings")
LIBRARIES = {"onnx": "onnxruntime", "openvino": "openvino"}


def needs(backend: str) -> None:
    if importlib.util.find_spec(LIBRARIES[backend]) is None:
        pytest.skip(f"{LIBRARIES[backend]} is not installed")


@pytest.fixture(scope="module", params=[(n, kind) for n in CODECS for kind in KINDS], ids=str)
def codec(request: pytest.FixtureRequest) -> RunnableCodec[Any]:
    name, kind = request.param
    torch.manual_seed(0)
    codec = small(name, SIZES[name][CODECS[name]])
    if kind == "torch":
        return codec
    if name == "speechtokenizer" and kind == "rings":
        pytest.skip("it has no steps")
    return as_exported(codec, steps=codec.causal, rings=kind == "rings")


@pytest.fixture(scope="module", params=["onnx", "openvino"])
def shipped(request: pytest.FixtureRequest) -> RunnableCodec[Any]:
    needs(request.param)
    return load("speech", backend=request.param, threads=1)


def assert_all(codec: RunnableCodec[Any], frames: int) -> None:
    """Everything that codecs promise of pieces, batches and streams."""
    size = codec.frame_size
    first = codec.executor.plan.first_frames
    assert_lengths_exact(codec, [0, 1, size, (first + 2) * size + 3])
    audio = noise(codec, frames * size + 5)
    assert_cuttable(codec, audio, examples=4)
    assert_batches(codec, [audio, audio[: 3 * size + 1], audio[:1]])
    if codec.latency < float("inf"):
        assert_conversations(codec, audio)


def test_promises_of_codecs_hold_in_every_executor(codec: RunnableCodec[Any]):
    assert_all(codec, 30)


def test_promises_hold_for_the_graphs_that_ship(shipped: RunnableCodec[Any]):
    assert_all(shipped, 150)


def test_the_graphs_that_ship_have_the_codes_of_torch(shipped: RunnableCodec[Any]):
    codec = load("speech")
    assert (shipped.fingerprint, shipped.decoder_fingerprint) == (
        codec.fingerprint,
        codec.decoder_fingerprint,
    )
    audio = noise(codec, 5 * codec.sample_rate)
    tokens = codec.encode(audio)
    assert (shipped.encode(audio).codes != tokens.codes).any(0).sum() <= 1
    far = (shipped.decode(tokens).samples - codec.decode(tokens).samples).abs().max()
    assert far < 1e-4
    tables: Any = shipped
    for table, right in zip(tables.codebook_embeddings(), codec.codebook_embeddings(), strict=True):
        assert np.array_equal(table, right.numpy())


def test_a_state_of_another_executor_is_refused():
    codec = small("speech", SIZES["speech"][1])
    exported = as_exported(codec, rings=True)
    data = Stream(codec).snapshot()
    with pytest.raises(ValueError, match="of torch, and 'speech' is run here by graphs with rings"):
        Stream.restore(exported, data)


def test_windows_run_in_graphs_too():
    codec = small("speechtokenizer", SIZES["speechtokenizer"][0])
    exported = as_exported(codec, steps=False)
    audio = noise(codec, 40 * codec.frame_size)
    one, other = loss(codec, audio, 0.1), loss(exported, audio, 0.1)
    assert abs(one.codes - other.codes) < 0.01
    stream = Stream(exported, context=0.1)
    codes = [stream.encode(piece) for piece in audio.samples.split(999, 1)]
    restored = Stream.restore(exported, stream.snapshot())
    codes += [restored.encode(audio.samples[:, :0]), restored.finish_encode()]
    whole = Stream(codec, context=0.1)
    right = torch.cat([whole.encode(audio), whole.finish_encode()], 1).numpy()
    assert (np.concatenate(codes, 1) != right).any(0).sum() <= 1


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["onnx", "openvino"])
@pytest.mark.parametrize("name", EXPORTS)
def test_promises_hold_in_every_export(name: str, backend: str, tmp_path: Path):
    needs(backend)
    # In a process of its own, as checks of shapes at run time get in the way of tracing.
    code = (
        "from sizes import SIZES, made; from audiotok.codecs.export.folder import export\n"
        f"codec = made({name!r}, SIZES[{name!r}][{CODECS.get(name, 0)}])\n"
        f"export(codec, {str(tmp_path / 'out')!r}, steps=codec.causal, rings=codec.causal)\n"
    )
    path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    environment = {**os.environ, "PYTHONPATH": path}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert_all(load(tmp_path / "out", backend=backend, threads=1), 30)
