"""Every codec is exported, and then does what torch does, or is refused before any work is done."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commandline import Done, process
from commandline import audiotok as run
from contracts import near_ties
from sizes import CODECS, LATENTS, TOKENIZERS, made
from test_backends import voice, without_torch

from audiotok import Audio, Latents, Stream, StreamBatch, load
from audiotok._platform.registry import presets
from audiotok.codecs.checkpoint import build, save
from audiotok.codecs.export import folder as folders
from audiotok.codecs.export.folder import export
from audiotok.codecs.models import voxcpm
from audiotok.codecs.models.base import Codec
from audiotok.codecs.models.xcodec2 import Xcodec2
from audiotok.runtime.exported import Exported, ExportError
from audiotok.tokens.tokenizer import NoDecoderError

for library in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(library, reason=f"{library} is not installed")
ROOT = Path(__file__).parents[2]
RECORDING = ROOT / "egs" / "data" / "reading.flac"

EXPORTED = {
    *("beats_random", "dac", "discretised", "encodec", "hificodec", "longcat", "mimi", "moss"),
    *("nanocodec", "pocket_tts", "qwen3_tts_12hz", "snac", "speech", "speechtokenizer"),
    *("stable_codec", "vibevoice", "voxcpm", "voxtral", "wavtokenizer", "xcodec"),
}
HEARS, SPECTRA = "hears by a pretrained network", "computes spectra of a whole recording"
REFUSED = {  # by part, or by name where the part's other presets are exported
    "beats": HEARS,
    "clam": SPECTRA,
    "dmel": SPECTRA,
    "dualcodec": HEARS,
    "encodec_48khz": "codes overlapping segments apart",
    "fish_s2": "rounds its rotary positions",
    "glm4_voice": SPECTRA,
    "ichigo": HEARS,
    "kmeans": "hears windows of a recording",
    "s3": SPECTRA,
    "snac_32khz": "attends within windows",
    "snac_44khz": "attends within windows",
    "tadicodec": SPECTRA,
    "units": HEARS,
    "vocos": "only decodes",
    "xcodec2": HEARS,
}


def refusal(name: str, part: str) -> str:
    """Why a codec is refused; "" if it is exported."""
    assert (part in EXPORTED) != (part in REFUSED), part
    return REFUSED.get(name, REFUSED.get(part, ""))


def no_work(*_: Any) -> Any:
    pytest.fail("graphs are made of a codec that is to be refused first")


@pytest.mark.parametrize(("name", "part"), sorted(presets().items()))
def test_a_codec_is_exported_or_refused_at_once(
    name: str, part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for work in ("whole", "stepwise", "compare"):
        monkeypatch.setattr(folders, work, no_work)
    with torch.device("meta"):
        codec = build(name)
    why = refusal(name, part)
    if why or not codec.causal:
        with pytest.raises(ExportError) as said:
            export(codec, tmp_path / "out", steps=True)
        assert str(said.value).startswith(f"{name} {why or 'looks ahead'}")
        assert str(said.value).endswith("it runs in torch" if why else "export it whole")
        assert "\n" not in str(said.value)
    if not why:
        with pytest.raises(pytest.fail.Exception, match="graphs are made"):
            export(codec, tmp_path / "out", steps=codec.causal)
    assert not list(tmp_path.iterdir())


def test_a_name_is_refused_before_its_weights_are_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AUDIOTOK_CACHE", str(tmp_path))
    monkeypatch.setattr(Xcodec2, "sources", {})
    done = run("export", "xcodec2", str(tmp_path / "out"))
    assert done.code == 1
    assert [line for line in done.lines if HEARS in line] == done.lines
    with pytest.raises(ExportError, match=f"^neucodec {HEARS}"):
        load("neucodec", backend="onnx")
    done = run("export", "dac_24khz", str(tmp_path / "out"), "--stepwise")
    assert "dac_24khz looks ahead, so it has no steps: export it whole" in done.err
    assert not list(tmp_path.iterdir())


def test_a_decoder_that_is_told_the_number_of_codebooks_is_refused(tmp_path: Path):
    codec = made("vocos", dict(CODECS)["vocos"])
    with pytest.raises(ExportError, match=r"^vocos decodes by how many codebooks .* in torch$"):
        export(codec, tmp_path / "out")


def test_the_guide_names_what_is_refused():
    guide = (ROOT / "docs" / "guides" / "onnx.md").read_text("utf-8")
    table = guide.partition("## Which codecs")[2].partition("\n## ")[0]
    for name, part in presets().items():
        named = f"`{name}`" in table or f"`{part}`" in table
        assert named == bool(refusal(name, part)), name


# -- latents ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def of_latents(tmp_path_factory: pytest.TempPathFactory) -> tuple[Codec, Path, Done]:
    """A small codec of latents, its folder, and what the command line said of it."""
    folder = tmp_path_factory.mktemp("latents")
    codec = made("voxcpm", voxcpm.Config(encoder=4, decoder=8, strides=(4, 5), features=6))
    save(codec, folder / "small.safetensors", dtype=torch.float32)
    done = process("export", folder / "small.safetensors", folder / "out", "--stepwise")
    assert done.code == 0, done.err
    return load(folder / "small.safetensors"), folder / "out", done


def assert_near(one: np.ndarray, other: np.ndarray) -> None:
    """Latents within 1e-4 of their size."""
    assert one.dtype == other.dtype == np.float32
    assert one.shape == other.shape
    if one.size:
        assert np.abs(one - other).max() <= 1e-4 * np.sqrt(np.square(other).mean())


def test_latents_are_exported(of_latents: tuple[Codec, Path, Done]):
    codec, folder, done = of_latents
    assert "latents within" in done.out
    exported: Exported = load(folder, backend="onnx")
    assert set(exported.metadata["graphs"]) == {
        *("encoder", "decoder", "encoder_step", "decoder_step")
    }
    parity = exported.metadata["parity"]
    assert 0 < parity["latents_apart"] < 1e-4
    assert parity["frames"] == parity["frames_equal"] > 0 == parity["codes"]
    assert (exported.kind, exported.width, exported.sizes) == ("latents", codec.width, ())
    assert exported.facts() == codec.facts()
    for samples in (0, 1, codec.frame_size, 20_001):
        audio = voice(codec, samples)
        latents: Any = exported.encode(audio)
        right: Any = codec.encode(audio)
        assert isinstance(latents, Latents)
        assert latents.header == right.header
        assert_near(latents.numbers, right.numbers)
        for given in (right, right.half(), right.values):
            heard, expected = exported.decode(given).samples, codec.decode(given).samples
            assert heard.shape == expected.shape
            assert not heard.numel() or (heard - expected).abs().max() < 1e-4
    with pytest.raises(ValueError, match="latents have no codebooks"):
        exported.encode(audio, codebooks=1)


@pytest.mark.parametrize("half", [False, True])
def test_files_of_latents(of_latents: tuple[Codec, Path, Done], tmp_path: Path, half: bool):
    codec, folder, _ = of_latents
    names = {"onnx": str(folder), "torch": str(folder.parent / "small.safetensors")}
    for backend, name in names.items():
        options = ["--codec", name, "--backend", backend]
        stored = tmp_path / f"{backend}.tok"
        done = run("encode", str(RECORDING), "-o", str(stored), *options, *["--half"] * half)
        assert done.code == 0, done.err
    one, other = (Latents.load(tmp_path / f"{backend}.tok") for backend in names)
    assert one.header == other.header
    assert (one.samples, one.original_samples) == (other.samples, other.original_samples)
    if half:
        assert np.abs(one.single().values - other.single().values).max() < 2e-3
    else:
        assert_near(one.values, other.values)
    for backend, name in names.items():  # each decodes the file of the other
        stored = tmp_path / f"{'torch' if backend == 'onnx' else 'onnx'}.tok"
        options = ["--codec", name, "--backend", backend]
        done = run("decode", str(stored), "-o", str(tmp_path / f"{backend}.wav"), *options)
        assert done.code == 0, done.err
        heard = Audio.load(tmp_path / f"{backend}.wav")
        right = codec.decode(Latents.load(stored))
        assert (heard.samples - right.samples).abs().max() < 2e-4  # the file has 16 bits
    assert f'"width": {codec.width}' in run("info", str(folder), "--json").out


def test_streams_of_latents(of_latents: tuple[Codec, Path, Done]):
    codec, folder, _ = of_latents
    exported: Exported = load(folder, backend="onnx")
    wave = voice(codec, 1234).samples.numpy()
    right = codec.encode(Audio(torch.from_numpy(wave), codec.sample_rate)).numbers
    sound = codec.decode(right).samples.numpy()
    stream = Stream(exported)
    pieces = [stream.encode(piece) for piece in np.array_split(wave, [1, 30, 31, 700], 1)]
    heard = [stream.decode(piece) for piece in pieces]
    snapshot = stream.snapshot()
    for rest in (stream, Stream.restore(exported, snapshot)):
        last, samples = rest.finish()
        assert_near(np.concatenate([*pieces, last], 1), right)
        assert np.abs(np.concatenate([*heard, samples], 1) - sound[:, :1234]).max() < 1e-4
    batch = StreamBatch(exported)
    waves = [np.roll(wave, 100 * i, 1) for i in range(3)]
    streams = {batch.open(): own for own in waves}
    found: list[list[np.ndarray]] = [[] for _ in waves]
    for at in range(0, 1234, 400):
        outputs = batch.encode({stream: own[:, at : at + 400] for stream, own in streams.items()})
        for kept, latents in zip(found, outputs.values(), strict=True):
            kept.append(latents)
    for kept, (stream, own) in zip(found, streams.items(), strict=True):
        right = codec.encode(Audio(torch.from_numpy(own.copy()), codec.sample_rate)).numbers
        assert_near(np.concatenate([*kept, stream.finish_encode()], 1), right)


def test_latents_without_torch(of_latents: tuple[Codec, Path, Done], tmp_path: Path):
    _, folder, _ = of_latents
    without_torch(
        "import audiotok, numpy as np\n"
        f"codec = audiotok.load({str(folder)!r}, backend='onnx')\n"
        f"latents = codec.encode({str(RECORDING)!r})\n"
        f"latents.save({str(tmp_path / 'a.tok')!r})\n"
        f"again = audiotok.Latents.load({str(tmp_path / 'a.tok')!r})\n"
        "assert codec.decode_array(again).shape == (1, latents.samples)\n"
        "assert sys.modules['torch'] is None\n"
    )


def test_large_weights_are_in_a_file_of_their_own(tmp_path: Path):
    codec = made("voxcpm", voxcpm.Config(encoder=16, decoder=32, strides=(4,), features=3))
    save(codec, tmp_path / "a.safetensors", dtype=torch.float32)
    script = (
        "import sys, audiotok\n"
        "from audiotok.codecs.export import folder, graphs\n"
        "graphs.LARGEST = 64\n"
        "folder.export(audiotok.load(sys.argv[1]), sys.argv[2])\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "a.safetensors"), str(tmp_path / "out")]
    subprocess.run(command, check=True, capture_output=True)
    names = {f"{name}.onnx{end}" for name in ("encoder", "decoder") for end in ("", ".data")}
    assert {file.name for file in (tmp_path / "out").iterdir()} == {*names, "codec.json"}
    audio = voice(codec, 999)
    exported: Exported = load(tmp_path / "out", backend="onnx")
    assert_near(exported.encode(audio).numbers, codec.encode(audio).numbers)
    graph = exported.metadata["graphs"]["encoder"]
    data = tmp_path / "out" / graph["data"]["file"]
    sizes = [file.stat().st_size for file in (data, data.with_suffix(""))]
    assert graph["bytes"] == sum(sizes)
    assert sizes[0] > sizes[1] / 10
    data.write_bytes(data.read_bytes()[::-1])
    with pytest.raises(ExportError, match=r"encoder.onnx.data: not the weights that the graphs"):
        load(tmp_path / "out", backend="onnx")
    data.unlink()
    with pytest.raises(ExportError, match=r"encoder.onnx.data is not there"):
        load(tmp_path / "out", backend="onnx")


# -- each codec, in a process of its own: what is traced has no types that are checked ------------


def exports() -> list[Any]:
    """Small codecs of every kind that is exported, and one of each rate that decodes to another."""
    of_part: dict[str, Any] = {}
    for name, config in [*CODECS, *TOKENIZERS, *LATENTS]:
        if name in EXPORTED - {"speech"}:
            of_part.setdefault(name, config)
    of_part["encodec"] = replace(of_part["encodec"], codebooks=32)  # as many as are published
    pairs = [*of_part.items()]
    for name, config in [*CODECS, *LATENTS]:
        if name in ("longcat", "xcodec", "vibevoice") and config != of_part[name]:
            pairs.append((name, config))
    return [pytest.param(*pair, id=f"{pair[0]}-{i}") for i, pair in enumerate(pairs)]


@pytest.fixture
def in_process(tmp_path: Path) -> Callable[[Codec], Exported]:
    """Function that exports a codec by the command line."""

    def exported(codec: Codec) -> Exported:
        save(codec, tmp_path / "a.safetensors", dtype=torch.float32)
        steps = ["--stepwise"] if codec.causal else []
        done = process("export", tmp_path / "a.safetensors", tmp_path / "out", *steps)
        assert done.code == 0, done.err
        return load(tmp_path / "out", backend="onnx")

    return exported


@pytest.mark.slow
@pytest.mark.parametrize(("name", "config"), exports())
def test_codecs_of_others(name: str, config: Any, in_process: Callable[[Codec], Exported]):
    codec = made(name, config)
    exported = in_process(codec)
    assert exported.facts() == codec.facts()
    period = codec.period * codec.frame_size if codec.period > 1 else 0
    for samples in (1, 3 * codec.frame_size + 1, max(20_000, 2 * period + 1)):
        audio = voice(codec, samples)
        tokens, found = codec.encode(audio), exported.encode(audio)
        assert found.header == tokens.header
        if codec.width:
            assert_near(found.numbers, tokens.numbers)
        else:
            differ = near_ties(codec, audio, tokens.codes, found.codes)
            assert differ <= max(1, tokens.frames / 1000)
        if not codec.decodes:
            with pytest.raises(NoDecoderError):
                exported.decode(tokens)
            continue
        kept = [tokens] if codec.width else [tokens, tokens.first(1)]
        for given in kept:
            heard, right = exported.decode(given), codec.decode(given)
            assert (heard.rate, len(heard)) == (right.rate, len(right))
            assert (heard.samples - right.samples).abs().max() < 1e-4
