"""Searching for codes with `speech`: the same in streams and batches, and nearer to the sound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from commandline import audiotok

from audiotok import Audio, Codec, Stream, Tokens, load
from audiotok.codecs.export.supported import check_exportable
from audiotok.codecs.load import load_in_backend
from audiotok.runtime.exported import ExportError

READING = Path(__file__).parents[2] / "egs" / "data" / "reading.flac"


@pytest.fixture(scope="module")
def codec() -> Codec:
    codec = load("speech")
    codec.set_search(8)
    return codec


@pytest.fixture(scope="module")
def audio() -> Audio:
    return Audio.load(READING).resample(16000)[: 3 * 16000 + 77]


def test_streams_and_batches_give_the_codes_of_the_whole(codec: Codec, audio: Audio):
    tokens = codec.encode(audio)
    first, second = codec.encode_batch([audio, audio[:20000]])
    assert first == tokens
    assert second == codec.encode(audio[:20000])
    stream = Stream(codec)
    parts = [stream.encode(audio.samples[:, i : i + 800]) for i in range(0, len(audio), 800)]
    codes = np.concatenate([*map(np.asarray, parts), np.asarray(stream.finish_encode())], 1)
    assert np.array_equal(codes, tokens.codes)
    assert len(codec.decode(tokens)) == len(audio)


def test_what_is_said_keeps_its_codes_and_the_rest_is_nearer(codec: Codec, audio: Audio):
    plain = load("speech")
    before, after = plain.encode(audio), codec.encode(audio)
    assert np.array_equal(before.semantic, after.semantic)
    assert (before.codes != after.codes).mean() > 0.2
    assert before.header.fingerprint == after.header.fingerprint
    assert np.array_equal(plain.decode(after).samples, codec.decode(after).samples)


def test_on_the_command_line(tmp_path: Path, codec: Codec):
    done = audiotok("encode", READING, "-o", tmp_path / "a.tok", "--search", "8")
    assert done.code == 0, done.err
    assert Tokens.load(tmp_path / "a.tok") == codec.encode(Audio.load(READING))
    for words, said in (
        (("--backend", "onnx"), "use backend torch"),
        (("--codec", "dmel_40hz"), "no residual codebooks"),
        (("--search", "0"), "--search"),
    ):
        done = audiotok("encode", READING, "-o", tmp_path / "b.tok", "--search", "8", *words)
        assert done.code
        assert said in done.err
        assert not (tmp_path / "b.tok").exists()


def test_the_codec_of_a_process_searches_only_where_it_is_asked_to():
    model = load_in_backend("speech", "cpu", "torch", search=8)
    assert isinstance(model, Codec)
    assert model.search_paths == 8
    assert load_in_backend("speech", "cpu", "torch", search=8) is model
    plain = load_in_backend("speech", "cpu", "torch")
    assert isinstance(plain, Codec)
    assert plain.search_paths == 1


def test_a_codec_of_code_keeps_its_own_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    code = "from audiotok import load\n\n\ndef eight():\n    codec = load('speech')\n"
    (tmp_path / "own_search.py").write_text(f"{code}    codec.set_search(8)\n    return codec\n")
    monkeypatch.syspath_prepend(tmp_path)
    model = load_in_backend("own_search:eight", "cpu", None)
    assert isinstance(model, Codec)
    assert model.search_paths == 8


def test_graphs_do_not_search(codec: Codec):
    with pytest.raises(ExportError, match=r"set_search\(1\)"):
        check_exportable(codec)
    with pytest.raises(ValueError, match="at least one path"):
        codec.set_search(0)
    with pytest.raises(ValueError, match="no residual codebooks"):
        load("dmel_40hz").set_search(2)
    load("dmel_40hz").set_search(1)
