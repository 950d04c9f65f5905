"""Export: what is written does what torch does, or is refused; nothing is left half-written."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commandline import Done, process
from commandline import audiotok as run
from contracts import latents
from sizes import SIZES, SMALL
from sizes import made as made_codec
from test_backends import assert_same_tokens, voice, without_torch

from audiotok import Audio, Tokens, load
from audiotok._platform.atomic import atomic_folder, partial_path, remove_stale_parts
from audiotok.codecs.checkpoint import save
from audiotok.codecs.export import folder as folders
from audiotok.codecs.export.folder import export
from audiotok.codecs.export.graphs import Graph
from audiotok.codecs.export.int8 import quantize
from audiotok.codecs.export.parity import Parity, unexplained
from audiotok.codecs.models.base import Codec
from audiotok.codecs.models.snac import Snac
from audiotok.codecs.models.speech import Speech
from audiotok.runtime.backends.onnx import Onnx
from audiotok.runtime.exported import FIRST, METADATA, Exported, ExportError, read_metadata
from audiotok.runtime.initializers import not_finite
from audiotok.runtime.sessions import Encoding

onnx: Any = pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxscript", reason="onnxscript is not installed")
ort: Any = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
RECORDING = Path(__file__).parents[2] / "egs" / "data" / "reading.flac"


def small(seed: int = 0) -> Speech:
    torch.manual_seed(seed)
    return Speech(SMALL).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Codec, Path, Done]:
    """A small codec, its folder, and what the command line said of it."""
    folder = tmp_path_factory.mktemp("export")
    save(small(), folder / "small.safetensors", dtype=torch.float32)
    options = ["--stepwise", "--audio", str(RECORDING), "--json"]
    # Types are checked at run time here, and what torch traces is not of them: in its own process.
    done = process("export", folder / "small.safetensors", folder / "out", *options)
    return load(folder / "small.safetensors"), folder / "out", done


@pytest.fixture
def copied(made: tuple[Codec, Path, Done], tmp_path: Path) -> Path:
    shutil.copytree(made[1], tmp_path / "copy")
    return tmp_path / "copy"


def test_the_command_line_writes_and_says_all(made: tuple[Codec, Path, Done]):
    codec, folder, done = made
    assert done.code == 0, done.err
    about = read_metadata(folder)
    assert json.loads(done.out) == about
    assert (about["codec"], about["fingerprint"]) == (codec.name, codec.fingerprint)
    assert about["sizes"] == [64] * 4
    assert set(about["graphs"]) == {
        *("encoder", "decoder", "encoder_step", "decoder_step", "decoder_flush"),
    }
    assert {file.name for file in folder.iterdir()} == {
        METADATA,
        *(f"{name}.onnx" for name in about["graphs"]),
    }
    parity = about["parity"]
    assert parity["frames_equal"] >= 0.999 * parity["frames"] > 900
    assert parity["apart"] < 1e-4
    for name, graph in about["graphs"].items():
        session = ort.InferenceSession(folder / graph["file"])
        assert [i.name for i in session.get_inputs()] == list(graph["inputs"]), name
        assert [o.name for o in session.get_outputs()] == graph["outputs"], name


def test_files_tell_nothing_of_the_machine_that_made_them(made: tuple[Codec, Path, Done]):
    """torch writes a stack trace with the paths of its Python files into every node."""
    for path in made[1].glob("*.onnx"):
        graph = onnx.load(path).graph
        assert not [node.name for node in graph.node if node.metadata_props]
        text = path.read_bytes()
        assert str(Path(torch.__file__).parents[1]).encode() not in text
        assert b"audiotok." not in text


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_backends_do_what_torch_does(made: tuple[Codec, Path, Done], backend: str):
    if backend == "openvino":
        pytest.importorskip("openvino", reason="OpenVINO is not installed")
    codec, folder, _ = made
    exported: Any = load(folder, backend=backend)
    audio = Audio.load(RECORDING)
    tokens = codec.encode(audio)
    assert_same_tokens(exported.encode(audio), tokens)
    for kept in (tokens, tokens.first(2), codec.encode(audio[:0]), codec.encode(audio[:1])):
        right, heard = codec.decode(kept), exported.decode(kept)
        assert len(heard) == kept.samples
        assert not len(heard) or (heard.samples - right.samples).abs().max() < 1e-4


def test_an_export_takes_what_a_codec_takes(made: tuple[Codec, Path, Done]):
    codec, folder, _ = made
    exported: Exported = load(folder, backend="onnx")
    audio = Audio.load(RECORDING)[:48000]
    tokens, wave = exported.encode(audio), audio.samples
    for given in (wave, wave[0], wave.numpy(), wave[0].numpy().astype(np.float64)):
        assert exported.encode(given, rate=audio.rate) == tokens
    assert exported.encode_batch([wave, audio], audio.rate) == [tokens] * 2
    whole = exported.encode(RECORDING)
    assert whole == exported.encode(Audio.load(RECORDING))
    heard = exported.decode(tokens)
    for codes in (tokens.codes, torch.from_numpy(tokens.codes.copy())):
        assert torch.equal(exported.decode(codes, samples=tokens.samples).samples, heard.samples)
        assert np.array_equal(exported.decode_array(codes)[:, : len(heard)], heard.samples.numpy())
    for wrong, error in ((wave, "says no sample rate"), (wave.T, "turn these over with x.T")):
        with pytest.raises(ValueError, match=error):
            exported.encode(wrong, *([audio.rate] if wrong is not wave else []))
    with pytest.raises(ValueError, match=r"^code \d+ in codebook 0: codes there are 0 to 63$"):
        exported.decode(tokens.codes + 64)
    assert exported.semantic_codebooks == codec.semantic_codebooks == 1
    assert exported.latency == codec.latency
    assert repr(exported) == (
        "<speech: 16000 Hz, 50 frames/s, 4 codebooks, 1.20 kbps, latency 40 ms, "
        f"{codec.fingerprint} exported, run by Onnx>"
    )


def test_a_reader_needs_the_json_alone(made: tuple[Codec, Path, Done]):
    """Streaming written from what codec.json says, with onnxruntime and nothing of ours."""
    codec, folder, _ = made
    about = json.loads((folder / METADATA).read_text())
    plan, frame = about["plan"], about["frame_size"]
    sessions = {n: ort.InferenceSession(folder / g["file"]) for n, g in about["graphs"].items()}
    tokens = codec.encode(voice(codec, 40 * frame))
    codes = tokens.codes[None]

    def start(way: str) -> dict[str, np.ndarray]:
        return {name: np.zeros((1, *shape), kind) for name, (kind, shape) in plan[way].items()}

    def step(graph: str, inputs: dict[str, np.ndarray]) -> tuple[np.ndarray, dict[str, Any]]:
        names = about["graphs"][graph]["outputs"]
        first, *after = sessions[graph].run(names, inputs)
        return first, {n.removeprefix("next."): x for n, x in zip(names[1:], after, strict=True)}

    wave = voice(codec, 40 * frame).samples.numpy()[None]
    wave = np.pad(wave, ((0, 0), (0, 0), (frame - plan["lead"], plan["lead"])))
    state, found = start("encoder"), []
    for at in range(0, wave.shape[2], frame):
        one, state = step("encoder_step", {"audio": wave[:, :, at : at + frame], **state})
        found.append(one)
    assert (np.concatenate(found, 2)[:, :, 1:] != codes).any(1).sum() <= 1

    state, heard = start("decoder"), []
    for f in range(codes.shape[2]):
        one, state = step("decoder_step", {"codes": codes[:, :, f : f + 1], **state})
        heard.append(one)
    heard.append(step("decoder_flush", state)[0])
    made_wave = np.concatenate(heard, 2)[0, :, plan["lead"] :]
    assert np.abs(made_wave - codec.decode(tokens).samples.numpy()).max() < 1e-5


def test_files_from_the_command_line(made: tuple[Codec, Path, Done], tmp_path: Path):
    codec, folder, _ = made
    tok, wav = tmp_path / "a.tok", tmp_path / "a.wav"
    for backend in ([], ["--backend", "onnx"]):
        options = ["--codec", str(folder), "--force", *backend]
        assert run("encode", str(RECORDING), "-o", str(tok), *options).code == 0
        assert run("decode", str(tok), "-o", str(wav), *options).code == 0
    assert_same_tokens(Tokens.load(tok), codec.encode(Audio.load(RECORDING)))
    assert len(Audio.load(wav)) == Tokens.load(tok).samples
    assert json.loads(run("info", str(folder), "--json").out)["codec"] == codec.name
    wrong = run("encode", str(RECORDING), "-o", str(tok), "-f", "--codec", str(folder),
                "--backend", "torch")  # fmt: skip
    assert wrong.code == 1
    assert "an exported codec, which torch does not run" in wrong.err


def test_without_torch(made: tuple[Codec, Path, Done], tmp_path: Path):
    """From Python and from the command line, as where torch is not installed."""
    codec, folder, _ = made
    tok, wav = tmp_path / "a.tok", tmp_path / "a.wav"
    without_torch(
        "from audiotok.__main__ import main\n"
        f"sys.argv = ['audiotok', 'encode', {str(RECORDING)!r}, '-o', {str(tok)!r},"
        f" '--codec', {str(folder)!r}]\n"
        "try: main()\n"
        "except SystemExit as done: assert not done.code\n"
        f"sys.argv = ['audiotok', 'decode', {str(tok)!r}, '-o', {str(wav)!r},"
        f" '--codec', {str(folder)!r}, '--rate', 'original']\n"
        "try: main()\n"
        "except SystemExit as done: assert not done.code\n"
        "import audiotok, numpy as np\n"
        f"codec = audiotok.load({str(folder)!r}, backend='onnx')\n"
        f"tokens = audiotok.Tokens.load({str(tok)!r})\n"
        "assert codec.decode_array(tokens).shape == (1, tokens.samples)\n"
        "again = codec.encode_array(np.zeros((2, 44100), np.float32), rate=44100)\n"
        "assert again.samples == 16000 and sys.modules['torch'] is None\n"
        f"assert codec.encode({str(RECORDING)!r}) == tokens\n"
        "integers = np.zeros((2, 44100), np.int16)\n"
        "assert codec.encode(integers, 44100) == again\n"
    )
    audio = Audio.load(RECORDING)
    tokens = Tokens.load(tok)
    assert tokens.header == codec.encode(audio).header
    assert len(Audio.load(wav)) == len(audio)


def test_long_audio_takes_no_more_memory(made: tuple[Codec, Path, Done]):
    """However long it is, no graph is given more than a block."""
    _, folder, _ = made
    exported: Any = load(folder, backend="onnx")
    longest: list[int] = []

    class Counted(Onnx):
        def run(self, graph: str, inputs: Any) -> dict[str, np.ndarray]:
            longest.append(max(x.shape[-1] for n, x in inputs.items() if n in ("audio", "codes")))
            return super().run(graph, inputs)

    exported.graphs = Counted(exported.graphs.graphs)
    run_ = Encoding(exported.executor)
    for _ in range(40):
        run_.push(np.zeros((1, 1, 16000), np.float32))
    assert max(longest) == exported.plan.block * exported.frame_size


def refused(codec: Codec, out: Path, patch: pytest.MonkeyPatch, source: Path) -> str:
    """Export with the graphs of another codec: what it says."""

    def write(graph: Graph, path: Path) -> None:
        shutil.copy(source / path.name, path)

    patch.setattr(folders, "write", write)
    with pytest.raises(ExportError) as said:
        export(codec, out, steps=True)
    return str(said.value)


def test_what_does_other_than_torch_is_refused(
    made: tuple[Codec, Path, Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    said = refused(small(seed=1), tmp_path / "out", monkeypatch, made[1])
    assert "is not what it is in torch" in said
    assert "% drift), samples within" in said
    assert not list(tmp_path.iterdir()), "something is left"


@pytest.mark.parametrize("steps", [False, True])
def test_segments_are_refused_with_the_reason(tmp_path: Path, steps: bool):
    codec = made_codec("encodec", SIZES["encodec"][-1])
    with pytest.raises(ExportError, match=r"segments apart.* \(as EnCodec 48 kHz .*runs in torch$"):
        export(codec, tmp_path / "out", steps=steps)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("steps", [False, True])
def test_attention_within_windows_is_refused_at_once(
    tmp_path: Path, steps: bool, monkeypatch: pytest.MonkeyPatch
):
    """As of `snac_32khz` and `snac_44khz`."""
    assert all(Snac.presets[f"snac_{rate}khz"].window for rate in (32, 44))
    monkeypatch.setattr(folders, "whole", lambda *_: pytest.fail("graphs are made first"))
    with pytest.raises(ExportError, match=r"^snac attends within windows .*it runs in torch$"):
        export(made_codec("snac", SIZES["snac"][1]), tmp_path / "out", steps=steps)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten_unless_forced(
    made: tuple[Codec, Path, Done], copied: Path, monkeypatch: pytest.MonkeyPatch
):
    before = read_metadata(copied)
    with pytest.raises(ExportError, match="force=True overwrites"):
        export(small(), copied)
    with pytest.raises(ExportError, match="name a folder that is not there"):
        export(small(), copied.parent, force=True)
    source = made[1]
    monkeypatch.setattr(folders, "write", lambda _, path: shutil.copy(source / path.name, path))
    export(small(), copied, force=True)
    after = read_metadata(copied)
    assert set(after["graphs"]) == {"encoder", "decoder"}
    assert after["fingerprint"] == before["fingerprint"]
    assert [path.name for path in copied.parent.iterdir()] == [copied.name]


def test_a_damaged_folder_is_told(copied: Path):
    file = copied / "decoder.onnx"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(ExportError, match=r"decoder.onnx: damaged"):
        load(copied, backend="onnx")
    file.unlink()
    with pytest.raises(ExportError, match=r"decoder.onnx is not there"):
        load(copied, backend="onnx")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_export_of_weights_that_are_not_finite_is_refused(copied: Path, bad: float):
    file = copied / "decoder.onnx"
    model = onnx.load(file)
    weight = next(x for x in model.graph.initializer if x.data_type == 1 and len(x.dims) > 1)
    values = onnx.numpy_helper.to_array(weight).copy()
    values.flat[3] = bad
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    onnx.save(model, file)
    about = json.loads((copied / METADATA).read_text())
    about["graphs"]["decoder"]["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    (copied / METADATA).write_text(json.dumps(about))
    with pytest.raises(ExportError) as caught:
        load(copied, backend="onnx")
    assert str(caught.value).startswith(
        f"{file}: tensor {weight.name!r} holds NaN or infinity: export a checkpoint that"
    )


def test_weights_are_found_in_any_spelling_of_a_tensor():
    helper, kinds = onnx.helper, onnx.TensorProto
    for kind in (kinds.FLOAT, kinds.FLOAT16, kinds.BFLOAT16, kinds.DOUBLE):
        dtype = helper.tensor_dtype_to_np_dtype(kind)
        for values, bad in ([1, 2], False), ([1, np.nan], True), ([1, -np.inf], True):
            array = np.array(values, dtype)
            tensor = helper.make_tensor("w", kind, [2], array.tobytes(), raw=True)
            graph = helper.make_graph([], "g", [], [], [tensor])
            data = helper.make_model(graph).SerializeToString()
            assert not_finite(data) == ("w" if bad else None), (kind, values)
    for kind in (kinds.FLOAT, kinds.DOUBLE):  # not as raw bytes
        tensor = helper.make_tensor("w", kind, [2], [1.0, np.nan])
        data = helper.make_model(helper.make_graph([], "g", [], [], [tensor])).SerializeToString()
        assert not_finite(data) == "w"
    mask = helper.make_tensor("mask", kinds.FLOAT, [], [-np.inf])
    data = helper.make_model(helper.make_graph([], "g", [], [], [mask])).SerializeToString()
    assert not_finite(data) is None
    with pytest.raises(ValueError, match="not an ONNX file, or cut off"):
        not_finite(data[:-1])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("nested", "nested more than 100 levels"),
        ({"sample_rate": 0}, "sample_rate is 0, not a whole number from 1"),
        ({"sizes": [4.5]}, "size is 4.5"),
        ({"fingerprint": None}, "fingerprint is null, not text"),
        ({"decoder_fingerprint": 3}, "decoder_fingerprint is 3, not text"),
        ({"former_fingerprints": [None]}, "a former fingerprint is null, not text"),
        ({"semantic_codebooks": -1}, "semantic_codebooks is -1"),
        ({"latency_ms": "40"}, 'latency_ms is "40", not a number'),
        ({"causal": 1}, "causal is 1, not true or false"),
        ({"plan": {"frame_size": "x"}}, 'frame_size is "x"'),
        ({"plan": {"lead": None}}, "lead is null"),
    ],
)
def test_what_codec_json_says_is_checked(copied: Path, change: Any, said: str):
    file = copied / METADATA
    about = json.loads(file.read_text())
    if change == "nested":
        file.write_text('{"a":' * 5000 + "1" + "}" * 5000)
    else:
        about["plan"] |= change.get("plan", {})
        file.write_text(json.dumps(about | {k: v for k, v in change.items() if k != "plan"}))
    with pytest.raises(ExportError, match=re.escape(said)) as caught:
        load(copied, backend="onnx")
    assert str(caught.value).startswith(f"{file}: damaged (")


def age(folder: Path, **changes: str) -> None:
    """An export as the first audiotok that exported wrote it."""
    about: dict[str, Any] = read_metadata(folder) | {"format": FIRST} | changes
    about["plan"].pop("rings", None)
    (folder / METADATA).write_text(json.dumps(about))


def test_an_old_export_is_used_if_it_was_right(copied: Path, made: tuple[Codec, Path, Done]):
    audio = Audio.load(RECORDING)
    age(copied)
    assert_same_tokens(load(copied, backend="onnx").encode(audio), made[0].encode(audio))
    age(copied, codec="mimi")
    with pytest.raises(ExportError, match=r"whose first frames .* wrong: export it again"):
        load(copied, backend="onnx")


def test_an_old_or_damaged_export_in_the_cache_is_made_again(
    made: tuple[Codec, Path, Done],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    codec, source, _ = made
    monkeypatch.setenv("AUDIOTOK_CACHE", str(tmp_path))
    weights = f"{codec.fingerprint}-{codec.decoder_fingerprint}"
    there = tmp_path / "exported" / f"{codec.name}-{weights}"
    asked: list[dict[str, Any]] = []

    def export_(_: Codec, folder: Path, **options: Any) -> None:
        asked.append(options)
        shutil.copytree(source, folder, dirs_exist_ok=True)

    monkeypatch.setattr(folders, "export", export_)

    def said() -> str:
        caplog.clear()
        load(source.parent / "small.safetensors", backend="onnx")
        assert len(caplog.messages) <= 1
        return "".join(caplog.messages)

    assert ", once; that takes a minute" in said()
    assert said() == ""
    age(there)
    assert "again: what is there is old or damaged; that takes a minute or two" in said()
    (there / "decoder.onnx").write_bytes(b"")
    assert "again: what is there is old or damaged; that takes a minute or two" in said()
    assert said() == ""
    assert asked == [{"rings": True, "force": True}] * 3


def test_weights_in_eight_bits(
    made: tuple[Codec, Path, Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    source = made[1]
    monkeypatch.setattr(folders, "write", lambda _, path: shutil.copy(source / path.name, path))
    about = export(small(), tmp_path / "out", steps=True, int8=True)
    # These weights are small and random; what counts is that loss is measured, and is one.
    assert 0 < about["int8"]["token_drift_percent"] < 60
    assert about["int8"]["apart"] > about["parity"]["apart"]
    weights = {w.name: w for w in onnx.load(tmp_path / "out" / "encoder.onnx").graph.initializer}
    shrunk = [name for name in weights if name.endswith(".int8")]
    assert shrunk
    assert load(tmp_path / "out", backend="onnx").encode(voice(small(), 999)).samples == 999


def test_eight_bits_are_within_half_a_step(tmp_path: Path):
    weight = np.random.default_rng(0).standard_normal((128, 64)).astype(np.float32)
    helper = onnx.helper
    info = helper.make_tensor_value_info
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    given = [info("x", 1, ["n", 128])], [info("y", 1, ["n", 64])]
    graph = helper.make_graph([node], "g", *given, [onnx.numpy_helper.from_array(weight, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, tmp_path / "a.onnx")
    quantize(tmp_path / "a.onnx", tmp_path / "b.onnx")
    session = ort.InferenceSession(tmp_path / "b.onnx")
    (back,) = session.run(None, {"x": np.eye(128, dtype=np.float32)})
    step = np.abs(weight).max(0) / 127
    assert np.abs(back - weight).max() > 0
    assert (np.abs(back - weight) <= 0.5001 * step).all()
    assert (tmp_path / "b.onnx").stat().st_size < 0.4 * (tmp_path / "a.onnx").stat().st_size


def test_a_folder_is_there_whole_or_not_at_all(tmp_path: Path):
    def stopped() -> None:
        with atomic_folder(tmp_path / "a") as part:
            (part / "x").write_text("x")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        stopped()
    assert not list(tmp_path.iterdir())
    killed = partial_path(tmp_path / "a")
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    left = tmp_path / killed.name.replace(f".{os.getpid()}.", f".{int(gone.stdout)}.")
    left.mkdir()
    (left / "x").write_text("x")
    remove_stale_parts([tmp_path])
    assert not list(tmp_path.iterdir())


def test_parity_holds_or_not():
    same = Parity(2000, 1999, 8000, 7999, 1e-5, -90.0)
    assert same.holds
    assert Parity(800, 799, 3200, 3199, 1e-5, -90.0).holds, "one near-tie of a short recording"
    assert not Parity(800, 798, 3200, 3198, 1e-5, -90.0).holds
    assert not Parity(2000, 1990, 8000, 7900, 1e-5, -90.0).holds
    assert not Parity(2000, 2000, 8000, 8000, 2e-4, -90.0).holds
    assert not replace(same, frames_wrong=1).holds


def test_only_near_ties_are_put_down_to_rounding():
    codec = made_codec("encodec", SIZES["encodec"][0])
    audio = voice(codec, 20 * codec.frame_size)
    wave, right = audio.samples.numpy(), codec.encode(audio).codes
    found = int(right[1, 3])
    other = (found + 1) % 64
    wrong = right.copy()
    wrong[1, 3] = other
    assert unexplained(codec, wave, right, right) == 0
    assert unexplained(codec, wave, right, wrong) == 1
    # Now the other entry lies across what is searched, as far from it: which is found is chance.
    quantizer: Any = codec.quantizer
    first, second = quantizer.stages[:2]
    rest = latents(codec, audio)[:, 3] - first.look_up(torch.tensor(right[0, 3]))
    second.entries[other] = 2 * rest - second.entries[found]
    right = codec.encode(audio).codes
    wrong = right.copy()
    wrong[1, 3] = found if right[1, 3] == other else other
    assert unexplained(codec, wave, right, wrong) == 0


@pytest.mark.slow
def test_installed_without_torch(made: tuple[Codec, Path, Done], tmp_path: Path):
    """As README says to: a new environment with numpy, soundfile and onnxruntime."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "lean"], check=True)
    python = tmp_path / "lean" / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    root = Path(__file__).parents[2]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    needs = ["numpy", "soundfile", "onnxruntime", "typer", "rich"]
    for packages in (["--no-deps", str(root)], needs):
        done = subprocess.run([*pip, *packages], capture_output=True, text=True, env=environment)
        if done.returncode:
            pytest.skip(f"pip installs nothing here: {done.stderr.strip()[-200:]}")
    command = [str(tmp_path / "lean" / "bin" / "audiotok"), "encode", str(RECORDING)]
    command += ["-o", str(tmp_path / "a.tok"), "--codec", str(made[1]), "--backend", "onnx"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    code = "import sys, audiotok; audiotok.Tokens.load('a.tok'); assert 'torch' not in sys.modules"
    subprocess.run([str(python), "-c", code], check=True, env=environment, cwd=tmp_path)
    assert subprocess.run([str(python), "-c", "import torch"], capture_output=True).returncode
