"""A codec in one file: what goes in comes out, and a file that is not one says why."""

from __future__ import annotations

import json
import math
import socket
import stat
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from commandline import SMALL, audiotok
from contracts import noise
from safetensors import safe_open
from safetensors.torch import save_file

from audiotok._platform.registry import UnknownPartError, find_preset, presets
from audiotok.codecs import catalogue
from audiotok.codecs.checkpoint import (
    CheckpointError,
    build,
    describe,
    is_path,
    load,
    read_card,
    save,
)
from audiotok.codecs.models.base import Codec
from audiotok.codecs.models.speech import Speech
from audiotok.nn.finite import not_finite

TINY = replace(SMALL, codebooks=2, size=16)


@pytest.fixture
def codec() -> Codec:
    return Speech(TINY).eval()


@pytest.fixture
def path(codec: Codec, tmp_path: Path) -> Path:
    save(codec, tmp_path / "tiny.safetensors", card={"steps": 3})
    return tmp_path / "tiny.safetensors"


def rewrite(path: Path, **about: str | None) -> None:
    """The same weights under another header; None takes a key out."""
    with safe_open(path, "pt") as file:
        header = {**file.metadata(), **about}
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    save_file(state, path, {key: value for key, value in header.items() if value is not None})


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert len(message) < len(str(path)) + 600
    return message.removeprefix(f"{path}: ")


# -- there and back ---------------------------------------------------------------------------


def test_weights_come_back_in_half_precision(codec: Codec, path: Path):
    again = load(path)
    assert asdict(again.config) == asdict(codec.config)
    assert again.state_dict().keys() == codec.state_dict().keys()
    for key, value in codec.state_dict().items():
        assert torch.equal(again.state_dict()[key], value.half().float())
    assert not again.training
    assert not any(p.requires_grad for p in again.parameters())
    about = {
        "codec": "speech",
        "family": "codecs",
        "name": "speech",
        "config": asdict(TINY),
        "card": {"steps": 3},
    }
    assert read_card(path) == {**about, "former_fingerprints": []}


def test_weights_come_back_exactly_if_asked(codec: Codec, tmp_path: Path):
    save(codec, tmp_path / "exact.safetensors", dtype=torch.float32)
    again = load(tmp_path / "exact.safetensors")
    for key, value in codec.state_dict().items():
        assert torch.equal(again.state_dict()[key], value)
    assert again.fingerprint == codec.fingerprint


def test_what_was_written_before_presets_had_names_loads(path: Path):
    fingerprint = load(path).fingerprint
    rewrite(path, name=None)
    assert load(path).name == "speech"
    assert load(path).fingerprint == fingerprint


def test_a_preset_is_saved_by_its_name_and_its_part(tmp_path: Path):
    kind, config = find_preset("codecs", "encodec_24khz")
    codec = kind(replace(config, width=4, codebooks=1, size=8)).eval()
    codec.name = "encodec_24khz"
    save(codec, tmp_path / "c.safetensors")
    about = read_card(tmp_path / "c.safetensors")
    assert (about["codec"], about["name"]) == ("encodec", "encodec_24khz")
    again = load(tmp_path / "c.safetensors")
    assert (again.name, type(again)) == ("encodec_24khz", kind)
    assert describe(tmp_path / "c.safetensors")["name"] == "encodec_24khz"


def test_the_fingerprint_survives_files_and_processes(path: Path, tmp_path: Path):
    codec = load(path)
    save(codec, tmp_path / "again.safetensors")
    assert load(tmp_path / "again.safetensors").fingerprint == codec.fingerprint
    code = f"import audiotok; print(audiotok.load({str(path)!r}).fingerprint)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == codec.fingerprint


def test_a_saved_codec_gives_the_tokens_it_gave(path: Path, tmp_path: Path):
    codec = load(path)
    save(codec, tmp_path / "again.safetensors")
    audio = noise(codec, 12_345)
    assert load(str(tmp_path / "again.safetensors")).encode(audio) == codec.encode(audio)


def test_saving_leaves_a_whole_file_or_none(
    codec: Codec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "c.safetensors"
    save(codec, path)
    before = path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) & 0o044 == 0o044, "others cannot read it"

    def full(self: Path, data: bytes) -> int:
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        save(codec, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# -- names ------------------------------------------------------------------------------------


def test_a_name_is_the_weights_that_ship(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    weights = tmp_path / "weights"
    weights.mkdir()
    path.replace(weights / "speech.safetensors")
    monkeypatch.setattr(catalogue, "WEIGHTS", weights)
    # A folder of that name in the way does not matter.
    (tmp_path / "speech").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load("speech").fingerprint == load(weights / "speech.safetensors").fingerprint
    assert load().config == TINY
    told, quick = describe("speech"), describe("speech", read=False)
    assert told["weights"] == quick["weights"] == str(weights / "speech.safetensors")
    assert (told["fingerprint"], told["card"]) == (load().fingerprint, {"steps": 3})
    assert (quick["fingerprint"], quick["card"]) == (None, None)


def test_a_codec_without_weights_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(catalogue, "WEIGHTS", tmp_path)
    with pytest.raises(
        CheckpointError,
        match=r"^codec 'speech' has no weights here; give the path of a checkpoint$",
    ):
        load("speech")


def test_an_unknown_name_lists_the_known():
    with pytest.raises(UnknownPartError, match=r"'speach'\. Did you mean 'speech'\? Known: "):
        load("speach")
    with pytest.raises(UnknownPartError, match=r"'encodec_24'\. Did you mean 'encodec_24khz'\?"):
        load("encodec_24")


def test_every_name_is_described_and_built_without_weights():
    for name in presets("codecs"):
        assert describe(name)["name"] == name
    assert {"speech", "encodec_24khz", "dm_codec", "dac_44khz_16kbps"} <= presets("codecs").keys()
    codec = build("wavtokenizer_40hz")
    assert (codec.name, codec.frame_size) == ("wavtokenizer_40hz", 600)
    with pytest.raises(UnknownPartError, match="'wavtokenizer'"):
        build("wavtokenizer")


def test_a_name_wins_over_a_file_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("speech").touch()
    assert not is_path("speech")
    assert is_path("./speech")
    assert is_path(Path("speech"))
    assert not is_path(Path("mimi"))
    assert is_path("some/where")
    assert is_path("other.safetensors")
    assert not is_path("other")
    Path("other").touch()
    assert is_path("other")


# -- what is no checkpoint --------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_weights_that_are_not_finite_are_refused_by_name(path: Path, bad: float):
    """They gave codes that are all 0, or silence, and exit code 0."""
    with safe_open(path, "pt") as file:
        header, state = file.metadata(), {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    for name in ("encoder.layers.0.conv.weight", "decoder.layers.0.norm.weight"):
        key = name if name in state else next(k for k in state if k.startswith(name[:7]))
        spoilt = {**state, key: state[key].clone()}
        spoilt[key].view(-1)[-1] = bad
        save_file(spoilt, path, header)
        kind = "NaN" if math.isnan(bad) else "infinity"
        said = f"tensor {key!r} holds {kind} (1 of {state[key].numel()} values): damaged, or of a "
        assert refusal(path).startswith(said)
        done = audiotok("conform", path)
        assert done.code == 1
        assert key in done.lines[0]


def test_what_half_precision_cannot_hold_is_not_written(codec: Codec, tmp_path: Path):
    key, weight = next(iter(codec.named_parameters()))
    weight.data.view(-1)[0] = 1e6
    path = tmp_path / "big.safetensors"
    with pytest.raises(CheckpointError, match=rf"not written: '{key}' holds infinity"):
        save(codec, path)
    assert not path.exists()
    save(codec, path, dtype=torch.float32)
    assert load(path).state_dict()[key].view(-1)[0] == 1e6


def test_sums_that_overflow_are_no_infinity():
    big = torch.full((1000,), 3e38)
    assert not_finite({"a": big, "b": torch.full((9,), 6e4).half(), "c": torch.arange(3)}) is None
    assert not_finite({"a": [big, {"x": big.log().sub(1000).log()}]}) == (
        "a.1.x",
        "NaN (1000 of 1000 values)",
    )
    assert not_finite({"a": torch.tensor([math.nan, math.inf])}) == (
        "a",
        "NaN or infinity (2 of 2 values)",
    )


@pytest.mark.parametrize("text", ['{"a":' * 3000 + "1" + "}" * 3000, '{"width": 1e400}'])
def test_json_that_python_chokes_on_is_one_line(path: Path, text: str):
    for key in ("card", "config"):
        rewrite(path, **{key: text})
        assert refusal(path).startswith(f"damaged; its config cannot be read ({key}: ")


def test_missing(tmp_path: Path):
    assert refusal(tmp_path / "none.safetensors") == "no such checkpoint; check the path"
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        read_card(tmp_path / "none.safetensors")


def test_the_state_of_a_training_run_is_no_codec(tmp_path: Path):
    state = {"players": {"codec": {"a": torch.ones(2)}}, "random": torch.ones(1), "step": 3}
    torch.save(state, tmp_path / "last.pt")
    assert refusal(tmp_path / "last.pt") == (
        "the state of a training run of audiotok, whose codec is best.safetensors beside it"
    )


def test_audio_and_tokens_are_no_checkpoints(tmp_path: Path):
    for name, content, kind in (("a.flac", b"fLaC\0", "audio"), ("a.tok", b"x", "tokens")):
        (tmp_path / name).write_bytes(content)
        expected = f"{kind}, not a checkpoint; a codec encodes and decodes it"
        assert refusal(tmp_path / name) == expected


@pytest.mark.parametrize("content", [b"", b"RIFF....WAVE", b"\x00" * 64, b"\xff" * 64])
def test_not_safetensors(tmp_path: Path, content: bytes):
    path = tmp_path / "c.safetensors"
    path.write_bytes(content)
    assert refusal(path).startswith(("no checkpoint, or damaged (", "audio, not a checkpoint"))
    with pytest.raises(CheckpointError, match=r": not a safetensors checkpoint \("):
        read_card(path)


def test_a_folder(tmp_path: Path):
    assert refusal(tmp_path) == "a folder without model.safetensors or pytorch_model.bin"


def test_truncated(path: Path):
    whole = path.read_bytes()
    for size in (7, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        damaged = "no checkpoint, or damaged (" if size < 9 else "damaged safetensors ("
        assert refusal(path).startswith(damaged)


def test_foreign_safetensors(tmp_path: Path):
    path = tmp_path / "c.safetensors"
    for metadata in (None, {"format": "pt"}):
        save_file({"weight": torch.zeros(2)}, path, metadata)
        assert refusal(path).startswith("weights of no codec here (weight ...); known: ")
        with pytest.raises(CheckpointError, match=r"not written by audiotok \(no config in it\)"):
            read_card(path)


def test_a_later_format(path: Path):
    rewrite(path, format="audiotok 2")
    assert refusal(path) == "written as 'audiotok 2', not 'audiotok 1': update audiotok"


@pytest.mark.parametrize(
    "about",
    [{"codec": None}, {"config": None}, {"card": None}, {"config": "{"}, {"card": "not json"}],
)
def test_a_damaged_header(path: Path, about: dict[str, Any]):
    rewrite(path, **about)
    assert refusal(path).startswith("damaged; its config cannot be read (")


def test_another_codec(path: Path):
    rewrite(path, codec="mimi2")
    assert "unknown codecs part 'mimi2'" in refusal(path)


@pytest.mark.parametrize("config", [{"colour": 3}, [1, 2], {"heads": 3}, {"encoder": -4}])
def test_a_config_that_builds_nothing(path: Path, config: Any):
    rewrite(path, config=json.dumps(config))
    assert refusal(path).startswith("no codec here is built so: ")


def test_weights_that_do_not_fit(path: Path):
    rewrite(path, config=json.dumps(asdict(TINY) | {"encoder": 32}))
    assert refusal(path).startswith("weights do not fit codec 'speech': wrong shape: encoder.")
    rewrite(path, config=json.dumps(asdict(TINY) | {"codebooks": 3}))
    assert refusal(path) == (
        "weights do not fit codec 'speech': missing: quantizer.stages.2.entries, "
        "quantizer.stages.2.usage"
    )


# -- no network -------------------------------------------------------------------------------


def test_nothing_here_can_reach_the_network():
    """The guard in conftest.py, by which every other test shows that it needs no network."""
    with pytest.raises(PermissionError, match="tests use no network"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    with socket.socket() as one, pytest.raises(PermissionError, match="tests use no network"):
        one.connect_ex(("192.0.2.1", 80))
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), timeout=1).close()
