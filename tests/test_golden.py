"""Files written before the package was laid out in rooms read as they did, and go on.

`golden/kept.py` wrote them, at commit 402a94d: one of each kind of file that audiotok keeps.
"""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from commandline import audiotok as run

from audiotok import Audio, Stream, Tokens, load
from audiotok.corpus import Corpus

KEPT = Path(__file__).parent / "golden" / "kept"
CODEC = "run/best.safetensors"


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the files, in which commands run as they did when the files were written."""
    folder = tmp_path / "kept"
    shutil.copytree(KEPT, folder)
    monkeypatch.chdir(folder)
    return folder


def steps(log: Path) -> list[str]:
    """The steps in a run's log."""
    with log.open(newline="") as lines:
        return [row["step"] for row in csv.DictReader(lines)]


def test_no_file_names_a_module():
    for path in KEPT.rglob("*"):
        if path.is_file():
            assert b"audiotok." not in path.read_bytes(), path.name


def test_tokens_and_checkpoint_decode_to_the_same_audio(kept: Path):
    codec, tokens = load(kept / CODEC), Tokens.load(kept / "b.tok")
    assert tokens.fingerprint == codec.fingerprint
    audio = Audio.load(kept / "recordings" / "b.wav")
    assert np.array_equal(codec.encode(audio).codes, tokens.codes)
    decoded = Audio.load(kept / "b_decoded.wav").samples
    assert torch.allclose(codec.decode(tokens).samples, decoded, atol=2**-15)


def test_a_snapshot_of_a_stream_goes_on(kept: Path):
    codec = load(kept / CODEC)
    samples = Audio.load(kept / "recordings" / "b.wav").samples
    whole = Stream(codec)
    codes = torch.cat([whole.encode(samples), whole.finish_encode()], 1)
    later = Stream.restore(codec, (kept / "stream.snapshot").read_bytes())
    rest = torch.cat([later.encode(samples[:, 5000:]), later.finish_encode()], 1)
    assert 0 < rest.shape[1] < codes.shape[1]
    assert torch.equal(rest, codes[:, -rest.shape[1] :])


def test_a_corpus_reads(kept: Path):
    done = run("corpus", "verify", "corpus")
    assert done.code == 0, done.err
    assert np.array_equal(Corpus("corpus")["b.wav"].tokens.codes, Tokens.load(kept / "b.tok").codes)


def test_an_exported_codec_encodes_and_decodes(kept: Path):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    codec, tokens = load(kept / "exported", backend="onnx"), Tokens.load(kept / "b.tok")
    audio = Audio.load(kept / "recordings" / "b.wav")
    assert np.array_equal(codec.encode(audio).codes, tokens.codes)
    assert codec.decode(tokens).samples.shape[1] == tokens.samples


def test_training_goes_on_where_it_stopped(kept: Path):
    done = run("train", "recipe.toml", "-o", "run", "--set", "train.steps=3")
    assert done.code == 0, done.err
    assert steps(kept / "run" / "log.csv") == ["1", "2", "3"]


def test_a_language_model_goes_on_and_scores(kept: Path):
    done = run("lm", "train", "lm_recipe.toml", "-o", "lm", "--set", "train.steps=3")
    assert done.code == 0, done.err
    assert steps(kept / "lm" / "log.csv") == ["1", "2", "3"]
    done = run("lm", "score", str(KEPT / "lm" / "best.safetensors"), "corpus")
    assert done.code == 0, done.err


def test_a_report_is_drawn_from_old_results(kept: Path):
    done = run("report", "bench")
    assert done.code == 0, done.err
    assert "stft" in (kept / "bench" / "report.md").read_text("utf-8")


def test_an_export_of_a_corpus_is_known_to_be_whole(kept: Path):
    before = (kept / "rows" / "shard-000000.jsonl").stat().st_mtime_ns
    done = run("export-corpus", "corpus", "-o", "rows", "--to", "jsonl")
    assert done.code == 0, done.err
    assert (kept / "rows" / "shard-000000.jsonl").stat().st_mtime_ns == before
