"""The fastest backend: measured once, said, stored, and only where its codes are torch's."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import pytest

from audiotok import load
from audiotok.codecs import fastest
from audiotok.codecs.fastest import shipped_graphs
from audiotok.codecs.load import choose_backend
from audiotok.runtime.exported import ExportError, read_metadata

pytest.importorskip("onnxruntime")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUDIOTOK_CACHE", str(tmp_path))
    monkeypatch.delenv("AUDIOTOK_BACKEND", raising=False)
    monkeypatch.setattr(fastest, "LIBRARIES", {"onnx": "onnxruntime", "torch": "torch"})
    monkeypatch.setattr(fastest, "SECONDS", 0.5)
    monkeypatch.setattr(fastest, "ROUNDS", 1)
    return tmp_path


def test_it_is_measured_once_and_said(cache: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, "audiotok"):
        chosen = choose_backend("speech")
        assert choose_backend("speech") == chosen
    assert len(caplog.messages) == 1
    assert f"speech runs in {chosen} on this machine" in caplog.messages[0]
    (row,) = json.loads((cache / "backends.json").read_text("utf-8")).values()
    assert row["backend"] == chosen
    assert row["equal"] == ["onnx"]
    model: Any = load("speech", backend="fastest")
    assert model.executor.kind == ("torch" if chosen == "torch" else "graphs with rings")


@pytest.mark.parametrize(("took", "chosen"), [(0.5, "onnx"), (1.2, "onnx"), (1.3, "torch")])
def test_another_one_is_taken_unless_torch_is_much_faster(
    cache: Path, monkeypatch: pytest.MonkeyPatch, took: float, chosen: str
):
    """As importing torch takes longer than most jobs."""
    seconds = iter([1.0, took])
    monkeypatch.setattr(fastest, "_quickest", lambda run: next(seconds))
    assert choose_backend("speech") == chosen


def test_other_codes_are_never_taken(cache: Path, monkeypatch: pytest.MonkeyPatch):
    seconds = iter([1.0, 0.1])
    monkeypatch.setattr(fastest, "_quickest", lambda run: next(seconds))
    monkeypatch.setattr(fastest, "CLOSE", -1.0)  # as if the decoded samples were others
    assert choose_backend("speech") == "torch"


@pytest.mark.parametrize("damage", ["{", "row"])
def test_a_damaged_file_is_measured_again(
    cache: Path, monkeypatch: pytest.MonkeyPatch, damage: str
):
    seconds = iter([1.0, 0.5])
    monkeypatch.setattr(fastest, "_quickest", lambda run: next(seconds))
    if damage == "row":
        monkeypatch.setattr(fastest, "_key", lambda *_: "key")
        damage = '{"key": ["onnx"]}'
    (cache / "backends.json").write_text(damage, "utf-8")
    assert choose_backend("speech") == "onnx"
    (row,) = json.loads((cache / "backends.json").read_text("utf-8")).values()
    assert row["backend"] == "onnx"


def test_a_broken_library_leaves_torch(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # found, and its import fails
    monkeypatch.setattr(fastest, "find_spec", lambda _name: True)
    with caplog.at_level(logging.WARNING, "audiotok"):
        assert choose_backend("speech") == "torch"
    assert "speech does not run in onnx here: " in caplog.messages[0]
    assert "no other backend with equal codes" in caplog.messages[1]


def test_a_cache_that_cannot_be_written_costs_nothing_else(
    cache: Path, monkeypatch: pytest.MonkeyPatch
):
    (cache / "file").write_text("", "utf-8")
    monkeypatch.setenv("AUDIOTOK_CACHE", str(cache / "file" / "below"))
    assert choose_backend("speech") in ("onnx", "torch")


@pytest.mark.parametrize("codec", ["mimi", "nobody", "a/b"])
def test_without_graphs_at_hand_it_is_torch(cache: Path, codec: str):
    assert choose_backend(codec) == "torch"
    assert choose_backend("speech", "cuda") == "torch"
    assert not list(cache.iterdir())


def test_the_environment_decides(cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AUDIOTOK_BACKEND", "onnx")
    assert choose_backend("speech") == "onnx"
    monkeypatch.setenv("AUDIOTOK_BACKEND", "tensorrt")
    with pytest.raises(ValueError, match="AUDIOTOK_BACKEND=tensorrt: the backends are onnx"):
        choose_backend("speech")


def test_graphs_of_other_weights_are_refused(tmp_path: Path):
    graphs = shipped_graphs("speech")
    assert graphs is not None
    content = json.loads(graphs.read_text("utf-8"))
    for graph in content["graphs"].values():
        file = graphs.parent / graph["file"]
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = graphs.parent / content["data"]["file"]
    other = bytearray(weights.read_bytes())
    other[-1] ^= 1
    (tmp_path / weights.name).write_bytes(other)
    (tmp_path / graphs.name).write_text(json.dumps(content), "utf-8")
    with pytest.raises(ExportError, match="not the weights that the graphs beside it are of"):
        read_metadata(tmp_path / graphs.name)
