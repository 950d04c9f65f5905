"""Backends: an exported codec's steps are its whole, to the bit; arrays in and out; without torch.

The graphs run as torch functions here, as they are traced: what drives them is tested without ONNX
(tests/codecs/test_export.py has the files).
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from contracts import near_ties
from hypothesis import given, settings
from hypothesis import strategies as st
from sizes import SIZES, SMALL, TINY, made, spread

from audiotok import Audio, Tokens, load
from audiotok._platform.errors import InputError
from audiotok._platform.registry import UnknownPartError
from audiotok.audio.resample import Resampler
from audiotok.audio.resample_numpy import NumpyResampler as Bare
from audiotok.codecs.export.folder import described
from audiotok.codecs.export.graphs import stepwise, whole
from audiotok.codecs.models import encodec
from audiotok.codecs.models.base import Codec
from audiotok.codecs.models.speech import Speech
from audiotok.runtime.backends import openvino
from audiotok.runtime.backends.torch import Torch
from audiotok.runtime.exported import METADATA, Exported, ExportError
from audiotok.runtime.graph_executor import GraphExecutor
from audiotok.runtime.sessions import Decoding, Encoding
from audiotok.tokens.tokenizer import WrongTokensError

ROOT = Path(__file__).parents[2]


def as_exported(codec: Codec, *, steps: bool = True, rings: bool = False) -> Exported:
    """What an export of the codec does, in torch."""
    graphs, states = whole(codec, codec.codebooks), {}
    if steps:
        more, states = stepwise(codec, codec.codebooks, rings=rings)
        graphs += more
    about = described(codec, graphs, states, codebooks=codec.codebooks)
    return Exported(about, Torch({graph.name: graph for graph in graphs}))


@pytest.fixture(scope="module", params=["speech", "encodec"])
def codec(request: pytest.FixtureRequest) -> Codec:
    torch.manual_seed(0)
    if request.param == "speech":
        made: Codec = Speech(SMALL)
    else:
        made = encodec.Encodec(encodec.Config(width=4, codebooks=3, **TINY))
        spread(made)
    return made.eval().requires_grad_(False)


@pytest.fixture(scope="module", params=[False, True], ids=["moved", "rings"])
def exported(codec: Codec, request: pytest.FixtureRequest) -> Exported:
    return as_exported(codec, rings=request.param)


def voice(codec: Codec, samples: int) -> Audio:
    random = torch.Generator().manual_seed(samples)
    wave = torch.randn(codec.channels, samples, generator=random)
    return Audio(0.1 * wave * torch.sin(torch.arange(samples) / 500), codec.sample_rate)


def assert_same_tokens(one: Tokens, other: Tokens) -> None:
    """All but rounding: at most a frame in a thousand may differ, where two entries are as near."""
    assert one.header == other.header
    assert (one.samples, one.original_samples) == (other.samples, other.original_samples)
    assert (one.codes != other.codes).any(0).sum() <= one.frames / 1000


def test_tokens_and_audio_are_those_of_torch(codec: Codec, exported: Exported):
    block = (codec.block + codec.first_frames) * codec.frame_size
    for samples in (0, 1, codec.frame_size, 9 * codec.frame_size + 7, block - 1, 2 * block + 77):
        audio = voice(codec, samples)
        tokens = codec.encode(audio)
        assert_same_tokens(exported.encode(audio), tokens)
        right, made = codec.decode(tokens), exported.decode(tokens)
        assert (len(made), made.channels, made.rate) == (samples, right.channels, right.rate)
        assert not samples or (made.samples - right.samples).abs().max() < 1e-5


@pytest.mark.parametrize("rings", [False, True])
def test_steps_begin_as_the_whole_does(rings: bool):
    """Mimi repeats the first sample before the start of its last convolution; silence there makes
    another code in many a first frame, and in no other."""
    codec = made("mimi", SIZES["mimi"][0])
    exported = as_exported(codec, rings=rings)
    waves = np.stack([voice(codec, 2000 + i).samples[:, :2000].numpy() for i in range(40)])
    steps = Encoding(exported.executor, 40, block=2).push(waves)
    for wave, codes in zip(waves, steps, strict=True):
        audio = Audio(torch.from_numpy(wave), codec.sample_rate)
        right = codec.encode(audio).codes[:, : codes.shape[1]]
        assert near_ties(codec, audio, right, codes) == 0


def test_any_prefix_of_the_codebooks(codec: Codec, exported: Exported):
    audio = voice(codec, 30 * codec.frame_size + 5)
    tokens = codec.encode(audio)
    for n in range(1, codec.codebooks + 1):
        assert_same_tokens(exported.encode(audio, codebooks=n), tokens.first(n))
        right, made = codec.decode(tokens.first(n)), exported.decode(tokens.first(n))
        assert (made.samples - right.samples).abs().max() < 1e-5
    with pytest.raises(ValueError, match="codebooks asked for"):
        exported.encode(audio, codebooks=codec.codebooks + 1)


def test_steps_are_the_whole_however_it_is_cut(codec: Codec, exported: Exported):
    """To the bit for one length of step; and up to rounding whatever the step is."""
    frame, first = codec.frame_size, codec.first_frames
    audio = voice(codec, (3 * first + 20) * frame + 3)
    wave, tokens = audio.samples.numpy()[None], exported.encode(audio)
    executor = GraphExecutor(replace(exported.plan, block=4), exported.graphs)
    one = Encoding(executor)
    right = np.concatenate([one.push(wave), one.finish()], 2)
    two = Decoding(executor, samples=len(audio))
    heard = np.concatenate([two.push(right), two.finish()], 2)
    assert (right[0] != tokens.codes).any(0).sum() <= 1
    assert heard.shape == wave.shape
    near = exported.decode_array(replace(tokens, codes=right[0]))
    assert np.abs(heard[0] - near).max() < 1e-5

    @settings(max_examples=15, deadline=None)
    @given(
        st.lists(st.integers(0, 6 * frame), max_size=20), st.lists(st.integers(0, 9), max_size=12)
    )
    def check(samples: list[int], frames: list[int]) -> None:
        encoding = Encoding(executor)
        made = [encoding.push(piece) for piece in cut(wave, samples)]
        assert np.array_equal(np.concatenate([*made, encoding.finish()], 2), right)
        decoding = Decoding(executor, samples=len(audio))
        parts = [decoding.push(piece) for piece in cut(right, frames)]
        assert np.array_equal(np.concatenate([*parts, decoding.finish()], 2), heard)

    check()


def cut(x: np.ndarray, sizes: list[int]) -> list[np.ndarray]:
    ends = [0, *np.cumsum(sizes), x.shape[2]]
    return [x[:, :, a:b] for a, b in pairwise(ends)]


def test_recordings_side_by_side(codec: Codec, exported: Exported):
    audios = [voice(codec, 40 * codec.frame_size + i) for i in range(3)]
    wave = np.stack([audio.samples.numpy()[:, : 40 * codec.frame_size] for audio in audios])
    run = Encoding(exported.executor, 3, block=5)
    codes = np.concatenate([run.push(wave), run.finish()], 2)
    for i, tokens in enumerate(exported.encode_batch(audios)):
        assert (codes[i, :, :-1] != tokens.codes[:, : codes.shape[2] - 1]).any(0).sum() <= 1


def test_arrays_of_any_rate_and_channels(codec: Codec, exported: Exported):
    stereo = 0.1 * np.random.default_rng(0).standard_normal((2, 30011)).astype(np.float32)
    tokens = codec.encode(Audio(torch.from_numpy(stereo), 44100))
    assert_same_tokens(exported.encode_array(stereo, 44100), tokens)
    split = exported.encode_array(stereo, 44100, split=True)
    assert_same_tokens(split, codec.encode(Audio(torch.from_numpy(stereo), 44100), split=True))
    assert exported.decode_array(split).shape == (2, tokens.samples)
    back = exported.decode(tokens, original_rate=True)
    assert (len(back), back.rate) == (30011, 44100)
    for wrong in (np.zeros((1, 1, 9), np.float32), np.full((1, 9), np.nan, np.float32)):
        with pytest.raises(ValueError, match="samples"):
            exported.encode_array(wrong, 16000)


def test_tokens_of_others_are_refused(codec: Codec, exported: Exported):
    tokens = codec.encode(voice(codec, 1000))
    for wrong in (replace(tokens, codec="other"), replace(tokens, fingerprint="0" * 16)):
        with pytest.raises(WrongTokensError):
            exported.decode(wrong)


def test_whole_exports_hold_all_until_the_end():
    torch.manual_seed(0)
    codec = Speech(SMALL).eval().requires_grad_(False)
    exported, audio = as_exported(codec, steps=False), voice(codec, 50000)
    assert not exported.constant_memory
    run = Encoding(exported.executor)
    assert run.push(audio.samples.numpy()[None]).shape[2] == 0
    assert_same_tokens(exported.encode(audio), codec.encode(audio))


@pytest.mark.parametrize(
    ("old", "new"), [(44100, 16000), (8000, 24000), (16000, 44100), (3, 2), (16000, 16000)]
)
def test_resampling_without_torch(old: int, new: int):
    x = np.random.default_rng(0).standard_normal((2, 3 * 131072 + 1)).astype(np.float32)
    torchs, bare = Resampler(old, new, 2), Bare(old, new, 2)
    right = np.concatenate([torchs.step(torch.from_numpy(x)), torchs.finish()], 1)
    made = np.concatenate([bare.step(x), bare.finish()], 1)
    assert made.shape == right.shape
    assert np.abs(made - right).max() < 3e-6  # of a peak of 5
    again = Bare(old, new, 2)
    pieces = [again.step(piece) for piece in np.split(x, [1, 2, 70000, 70001, 300000], 1)]
    assert np.array_equal(np.concatenate([*pieces, again.finish()], 1), made)


def test_rates_that_cannot_be_resampled_without_torch():
    with pytest.raises(ValueError, match="no useful factor"):
        Bare(22254, 16000 * 1009)
    with pytest.raises(ValueError, match="cannot resample"):
        Bare(0, 16000)


def test_unknown_backends_and_devices(tmp_path: Path):
    with pytest.raises(UnknownPartError, match="onnx, openvino, torch"):
        load("speech", backend="tensorrt")
    with pytest.raises(ExportError, match="runs on the CPU"):
        load("speech", backend="onnx", device="cuda")
    with pytest.raises(ValueError, match="runs in float32"):
        Torch({}, precision="bfloat16")
    (tmp_path / METADATA).write_text(json.dumps({"format": "audiotok export 9"}))
    with pytest.raises(ExportError, match="export it again"):
        load(tmp_path, backend="onnx")
    with pytest.raises(ExportError, match="torch does not run"):
        load(tmp_path)
    (tmp_path / METADATA).write_text("{")
    with pytest.raises(ExportError, match="damaged"):
        load(tmp_path, backend="onnx")


def without_torch(code: str) -> Any:
    """What a program prints in which torch cannot be imported."""
    start = "import sys; sys.modules.update(torch=None, torchaudio=None, jaxtyping=None)\n"
    done = subprocess.run([sys.executable, "-c", start + code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_torch_a_codec_by_name_says_the_way_out():
    said = without_torch(
        "import audiotok\n"
        "for backend in ('torch', 'onnx'):\n"
        "    try: audiotok.load('mimi', backend=backend)\n"
        "    except ValueError as error: print(error)\n"
    )
    assert "pip install torch, or give an exported codec" in said
    assert "give a folder that `audiotok export` wrote elsewhere" in said


def test_without_torch_commands_run_the_codec_that_ships(tmp_path: Path):
    """Encode, decode, streams and corpora: none of them imports torch where onnxruntime runs it."""
    pytest.importorskip("onnxruntime")
    recording = tmp_path / "in" / "a.flac"
    recording.parent.mkdir()
    recording.write_bytes((ROOT / "egs/data/reading.flac").read_bytes())
    without_torch(
        "import io, sys\n"
        "from audiotok.cli.program import program\n"
        "def run(*words):\n"
        "    try: program()(list(words))\n"
        "    except SystemExit as end: assert not end.code, words\n"
        f"tok = {str(tmp_path / 'a.tok')!r}\n"
        f"run('encode', {str(recording)!r}, '-o', tok, '--backend', 'onnx')\n"
        "run('decode', tok, '--backend', 'onnx')\n"
        "from audiotok.corpus.build.work import Work\n"
        "from audiotok.corpus.build.worker import Worker\n"
        "from audiotok.data.recording import Recording\n"
        "worker = Worker(Work(codec='speech', backend='onnx'))\n"
        f"(_, coded), = worker.all([(0, Recording.of_file({str(recording)!r}))])\n"
        "assert coded.codes.shape == (8, 483), coded.error\n"
        "from audiotok import Stream, load\n"
        "from audiotok.serving.live.pipe import encode_pcm\n"
        "codec = load('speech', backend='onnx')\n"
        "encode_pcm(codec, io.BytesIO(bytes(6400)), io.BytesIO())\n"
        "Stream.restore(codec, Stream(codec).snapshot())\n"
    )
    tokens = load("speech").encode(ROOT / "egs/data/reading.flac")
    assert_same_tokens(Tokens.load(tmp_path / "a.tok"), tokens)
    assert len(Audio.load(tmp_path / "a.wav")) == tokens.samples


def test_without_torch_audio_is_read_resampled_and_written(tmp_path: Path):
    said = without_torch(
        "from audiotok.audio.reader import open_audio\n"
        "from audiotok.audio.writer import Sink\n"
        f"source = open_audio({str(ROOT / 'egs/data/reading.flac')!r})\n"
        f"with source, Sink({str(tmp_path / 'a.wav')!r}, 8000) as sink:\n"
        "    for block in source.arrays(rate=8000, mono=True): sink.write(block)\n"
        "print(sink.samples)\n"
    )
    right = Audio.load(ROOT / "egs/data/reading.flac").mono().resample(8000)
    made = Audio.load(tmp_path / "a.wav")
    assert int(said) == len(made) == len(right)
    assert (made.samples - right.samples).abs().max() < 2 / 32768


def test_a_cpu_without_bfloat16_says_so(monkeypatch: pytest.MonkeyPatch):
    core = SimpleNamespace(get_property=lambda *_: ["FP32", "INT8"])
    library = SimpleNamespace(Core=lambda: core)
    monkeypatch.setattr(openvino, "optional_import", lambda *_, **__: library)
    graphs = openvino.Openvino({"encoder": Path("encoder.onnx")}, precision="bfloat16")
    with pytest.raises(InputError, match="this CPU has no bfloat16"):
        graphs.run("encoder", {})
