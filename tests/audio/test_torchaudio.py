"""torchaudio loads beside any torch, and nothing loads it before it is needed."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from audiotok.audio import _torchaudio


def run(code: str, *folders: Path) -> str:
    paths = f"import sys; sys.path[:0] = {[str(f) for f in folders]}\n"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", paths + code], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_loads_without_warnings_and_encodec_after_it():
    code = """
from importlib.util import find_spec
import torch
from audiotok.audio.audio import Audio
audio = Audio(torch.zeros(1, 100), 48000)
assert audio.resample(48000) is audio
assert len(audio.resample(16000)) == 34
assert "torchaudio" not in sys.modules  # importing audiotok and resampling in numpy do without it
from audiotok.audio.resample import Resampler
assert Resampler(48000, 16000).finish().shape == (1, 0)
assert "torchaudio" in sys.modules
if find_spec("encodec"):
    import encodec
    print(encodec.__name__)
"""
    assert run(code) == ("encodec\n" if find_spec("encodec") else "")


def test_parts_work():
    torchaudio = _torchaudio.load()
    assert _torchaudio.load() is torchaudio
    wave = torch.randn(1, 16000)
    assert torchaudio.compliance.kaldi.fbank(wave, num_mel_bins=40).shape[1] == 40
    assert torchaudio.transforms.MelSpectrogram(n_mels=40)(wave).isfinite().all()
    assert torchaudio.pipelines.HUBERT_BASE.sample_rate == 16000


def fake(folder: Path, extension: str, rest: str = "") -> Path:
    package = folder / "torchaudio"
    (package / "_extension").mkdir(parents=True)
    (package / "half.py").write_text("")
    (package / "__init__.py").write_text(f"from . import half\nfrom . import _extension\n{rest}")
    (package / "_extension" / "__init__.py").write_text(extension)
    return folder


LOAD = "from audiotok.audio import _torchaudio; t = _torchaudio.load()\n"


def test_a_torchaudio_that_loads_is_left_alone(tmp_path: Path):
    fake(tmp_path, "_IS_TORCHAUDIO_EXT_AVAILABLE = True")
    assert run(LOAD + "print(t._extension._IS_TORCHAUDIO_EXT_AVAILABLE)", tmp_path) == "True\n"


def test_the_stub_answers_what_torchaudio_asks(tmp_path: Path):
    fake(
        tmp_path,
        "raise OSError('libcudart.so: cannot open shared object file')",
        "from torchaudio._extension import fail_if_no_align\n@fail_if_no_align\ndef align(): ...\n",
    )
    code = (
        "print(t._extension._IS_ALIGN_AVAILABLE, t._extension._load_lib('x'))\n"
        "import torchaudio; print(torchaudio is t, hasattr(t._extension, 'other'))\n"
        "try: t.align()\nexcept RuntimeError as e: print(e)\n"
    )
    lines = run(LOAD + code, tmp_path).splitlines()
    assert lines[:2] == ["False False", "True False"]
    assert "align needs its compiled extension" in lines[2]


@pytest.mark.parametrize("broken", ["import not_installed", "raise OSError('something else')"])
def test_other_failures_are_not_hidden(tmp_path: Path, broken: str):
    fake(tmp_path, "", broken)
    code = "try: _torchaudio.load()\nexcept (ImportError, OSError) as e: print(e)"
    printed = run("from audiotok.audio import _torchaudio\n" + code, tmp_path)
    assert "not_installed" in printed or "something else" in printed


def test_absent(tmp_path: Path):
    code = (
        "sys.modules['torchaudio'] = None\nfrom audiotok.audio import _torchaudio\n"
        "try: _torchaudio.load()\nexcept ImportError as e: print(e.name)"
    )
    assert run(code) == "torchaudio\n"
