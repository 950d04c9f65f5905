"""egs/train_units.py: features are stored once, training goes on where it was stopped."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch
from contracts import noise
from sizes import made

from audiotok._platform.errors import InputError
from audiotok.audio.audio import Audio
from audiotok.codecs.checkpoint import load
from audiotok.codecs.models.units import Config, Units
from audiotok.data.alignment import Alignment, TimedSpan

ROOT = Path(__file__).parents[2]
TINY = Config(width=16, heads=2, layers=1, adapter=16, bands=20, blocks=1)


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, with a small network in the place of Whisper base."""
    spec = importlib.util.spec_from_file_location("train_units", ROOT / "egs/train_units.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(Units, "from_whisper", lambda _: Units(TINY))
    monkeypatch.setattr(module, "align", aligned)
    return module


def aligned(audio: Audio, text: str) -> Alignment:
    """An alignment of noise, which an aligner would refuse, as it does one of these."""
    if audio.seconds > 1.9:
        raise InputError("the text does not fit")
    return Alignment([TimedSpan("IH", 0.1, 0.4), TimedSpan("T", 0.4, 0.8)], [])


def folder(path: Path) -> Path:
    """Return a listing of some recordings, one of them too short to be used."""
    codec = made("units", TINY)
    rows = ["path\tsplit\tlanguage\ttext"]
    for number, seconds in enumerate((1.0, 1.4, 0.9, 2.0, 0.1)):
        noise(codec, int(16000 * seconds), seed=number).save(path / f"{number}.wav")
        rows.append(f"{number}.wav\ttrain\t{'de' if number == 2 else 'en'}\tit's one")
    (path / "talks.tsv").write_text("\n".join(rows) + "\n")
    return path / "talks.tsv"


def test_features_training_and_the_file(
    example: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    listing, work = str(folder(tmp_path)), tmp_path / "work"
    for _ in range(2):
        example.features(listing, "whisper", work)
    facts = (work / "meta.tsv").read_text().splitlines()
    assert len(facts) == len(list((work / "f").glob("*.npy"))) == 4
    spans = [json.loads(path.read_text()) for path in (work / "f").glob("*.json")]
    assert sorted(map(len, spans)) == [0, 0, 2, 2]  # German, and what did not fit
    threads = torch.get_num_threads()
    for steps in (200, 400):  # interrupted, as it were
        example.train(work, steps)
    torch.set_num_threads(threads)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step")]
    assert [int(line.split()[1]) for line in lines] == [*range(50, 401, 50)]
    for name, share in (("features 2", 0.97), ("phone 2", 0.7)):
        first, last = (float(re.findall(rf"{name} ([\d.]+)", lines[i])[0]) for i in (0, -1))
        assert last < share * first, name
    example.write(work, str(tmp_path / "units.safetensors"))
    codec = load(tmp_path / "units.safetensors")
    assert codec.card["steps"] == 400
    codes = codec.encode(tmp_path / "0.wav").codes
    assert codes.shape == (1, 25)
    assert len(set(codes[0].tolist())) > 3
