"""Loading: names, ids of hubs, devices and types; what cannot be honoured is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from commandline import SMALL, audiotok
from safetensors.torch import save_file

import audiotok as package
from audiotok._platform.registry import UnknownPartError, find, find_preset, presets
from audiotok.codecs import checkpoint
from audiotok.codecs.checkpoint import CheckpointError, hub_ids, read_card, save
from audiotok.codecs.load import load, load_in_backend, load_once
from audiotok.codecs.models.speech import Speech
from audiotok.lm.file import load_model
from audiotok.nn.device import DeviceError, usable_device
from audiotok.tokens.codebooks import semantic_codebooks_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save(Speech(SMALL).eval(), tmp_path / "tiny.safetensors", card={"steps": 3, "data": "noise"})
    return tmp_path / "tiny.safetensors"


# -- names --------------------------------------------------------------------------------------


def test_names_are_what_load_takes():
    names = package.names()
    assert names == sorted(presets("codecs"))
    assert {"speech", "mimi", "encodec_24khz"} <= set(names)
    for name in names:
        find_preset("codecs", name)  # raises unless it is one
        assert not checkpoint.is_path(name)
    assert package.names("quantizers") == sorted(package.names("quantizers"))
    with pytest.raises(UnknownPartError, match=r"^no family 'codec'"):
        package.names("codec")


@pytest.mark.parametrize(("part", "usual"), [("encodec", "encodec_24khz"), ("dac", "dac_44khz")])
def test_a_part_of_several_sizes_suggests_the_usual_one(part: str, usual: str):
    assert part not in package.names()
    with pytest.raises(UnknownPartError, match=rf"Did you mean '{usual}'\?"):
        load(part)


def test_semantic_codebooks_are_known_by_name():
    """For every codec of the package, without building it, as a .tok file is read."""
    for name in presets("codecs"):
        with torch.device("meta"):
            codec = checkpoint.build(name)
        assert semantic_codebooks_of(name) == codec.semantic_codebooks, name


# -- ids of Hugging Face ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hub_id", "name"),
    [
        ("kyutai/mimi", "mimi"),
        ("facebook/encodec_24khz", "encodec_24khz"),
        ("facebook/encodec_48khz", "encodec_48khz"),
        ("descript/dac_16khz", "dac_16khz"),
        ("hubertsiuzdak/snac_24khz", "snac_24khz"),
    ],
)
def test_the_id_of_a_hub_is_the_name(hub_id: str, name: str, monkeypatch: pytest.MonkeyPatch):
    assert hub_ids()[hub_id] == [name]
    asked = []
    monkeypatch.setattr(checkpoint, "_fetch", lambda name: asked.append(name) or Path("none.bin"))
    with pytest.raises(CheckpointError, match=r"^none\.bin: no such checkpoint"):
        load(hub_id)
    assert asked == [name]
    assert checkpoint.describe(hub_id)["name"] == name


def test_ids_that_are_not_known_tell_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(CheckpointError, match=r"^novateur/WavTokenizer: holds several codecs"):
        load("novateur/WavTokenizer")
    with pytest.raises(CheckpointError, match=r"^nobody/nothing: no such path, nor .*kyutai/mimi"):
        load("nobody/nothing")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kyutai").mkdir()  # then it is a path, like any other
    with pytest.raises(CheckpointError, match=r"^kyutai/mimi: no such checkpoint; check the path"):
        load("kyutai/mimi")


# -- devices and types --------------------------------------------------------------------------

MISSING = ["banana", "meta", "cuda:99", "", "cpu:cpu"]
MISSING += [] if torch.cuda.is_available() else ["cuda"]
MISSING += [] if torch.backends.mps.is_available() else ["mps"]


@pytest.mark.parametrize("device", MISSING)
def test_a_device_that_is_not_there(device: str, path: Path):
    for open_it in (load, load_once, load_model):
        with pytest.raises(DeviceError) as caught:
            open_it(str(path), device=device)
        text = str(caught.value)
        assert text.startswith(f"device {device}: ")
        assert "; there is cpu" in text
        assert "\n" not in text
    assert usable_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("dtype", ["float32", torch.float32, None])
def test_weights_are_float32(dtype: Any, path: Path):
    assert next(load(path, dtype=dtype).parameters()).dtype == torch.float32


@pytest.mark.parametrize("dtype", ["bfloat16", torch.float16, "int8"])
def test_other_types_are_refused_with_the_way(dtype: Any, path: Path):
    with pytest.raises(ValueError, match=rf"^dtype {dtype}: weights are float32, since others"):
        load(path, dtype=dtype)


# -- cards --------------------------------------------------------------------------------------


def test_converting_keeps_the_card(path: Path, tmp_path: Path):
    out = tmp_path / "again.safetensors"
    done = audiotok("convert", path, out, "--json")
    assert done.code == 0, done.err
    assert done.json["card"] == read_card(out)["card"] == {"steps": 3, "data": "noise"}


def test_a_card_is_added_to_the_one_of_the_file(path: Path, tmp_path: Path):
    codec = load(path)
    assert codec.card == {"steps": 3, "data": "noise"}
    save(codec, tmp_path / "more.safetensors", card={"steps": 5, "seed": 1})
    card = read_card(tmp_path / "more.safetensors")["card"]
    assert card == {"steps": 5, "data": "noise", "seed": 1}
    assert not Speech(SMALL).card


def test_a_folder_of_weights_of_ours_is_a_checkpoint(path: Path, tmp_path: Path):
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(CheckpointError, match=r"folder: a folder without model\.safetensors"):
        load(folder)
    (folder / "model.safetensors").write_bytes(path.read_bytes())
    (folder / "config.json").write_text(json.dumps({"model_type": "audiotok"}))
    assert load(folder).fingerprint == load(path).fingerprint
    done = audiotok("info", folder, "--json")
    assert done.code == 0, done.err
    assert done.json["fingerprint"] == load(path).fingerprint
    save_file({"x": torch.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="folder: "):
        load(folder)


def test_names_of_other_families_need_no_torch():
    code = "import sys, audiotok; audiotok.names('metrics'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_every_source_that_others_know_is_listed():
    for part in ("encodec", "dac"):
        for name, source in find("codecs", part).sources.items():
            assert source.copy or source.repo or name == "dac_44khz_16kbps"


def test_a_codec_is_loaded_once_however_it_is_asked_for():
    assert load_once("speech", "cpu") is load_in_backend("speech", "cpu", "torch")
    assert load_once("speech", "cpu") is load_once("speech", "cpu", "float32")
