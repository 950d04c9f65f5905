"""bench/train_beats.py: codes come to tell a teacher's features, and many entries are used."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from audiotok.audio.audio import Audio
from audiotok.codecs.checkpoint import load, save
from audiotok.nn.quantizers.shared_vq import SharedVq

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script() -> Any:
    path = ROOT / "tests/bench/train_beats.py"
    spec = importlib.util.spec_from_file_location("train_beats", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_tiny_tokenizer_learns(
    script: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    reading = Audio.load(ROOT / "egs/data/reading.flac").resample(16000)
    starts = range(0, len(reading) - script.SAMPLES, 16000)
    waves = torch.stack([reading[i : i + script.SAMPLES].samples for i in starts])
    monkeypatch.setattr(script, "BATCH", 3)
    codec = script.train(waves, script.targets_of(waves), 30)
    told = re.findall(r"^\d+ ([\d.]+) (\d+) entries", capsys.readouterr().out, re.MULTILINE)
    assert float(told[-1][0]) < 0.85 < float(told[0][0])
    save(codec, tmp_path / "beats.safetensors", dtype=torch.float32)
    again = load(tmp_path / "beats.safetensors")
    codes = again.encode(reading).codes
    assert np.array_equal(codes, codec.encode(reading).codes)
    assert len(np.unique(codes)) > 20


def test_dead_entries_come_back_and_are_used():
    torch.manual_seed(0)
    quantizer = SharedVq(16, codebooks=2, size=32, revive=0.5).train()
    quantizer.book.entries.zero_()
    quantizer.book.entries[:, 0] = -1  # all alike: one is chosen, until the others are dead
    x = torch.randn(4, 16, 50)
    seen = [len(quantizer(x).codes.unique()) for _ in range(120)]
    assert seen[0] == 1
    assert seen[-1] > 16
    assert (quantizer.book.entries.norm(dim=1) - 1).abs().max() < 1e-5
