"""Codecs by code, `module:codec`: by a person's word alone, in every command, in every process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from commandline import Done, audiotok, recording
from plugins import CODE

from audiotok.audio.audio import Audio
from audiotok.codecs import load as loading
from audiotok.codecs.checkpoint import load as load_checkpoint
from audiotok.codecs.external import ExternalCodecError, is_import
from audiotok.codecs.functions import FunctionCodec
from audiotok.codecs.load import load
from audiotok.codecs.models.speech import Speech
from audiotok.corpus import Corpus
from audiotok.evaluation.bench import bench
from audiotok.evaluation.bench.recipe import BenchData, BenchRecipe
from audiotok.nn.device import DeviceError
from audiotok.tokens.tokens import Tokens

OTHERS = """
from audiotok.codecs.models.speech import Speech
from plugin_code import FRAME, Hold, codec

instance = codec()
number = 3

class Nested:
    hold = Hold

class Random(Speech):
    pass

class Renamed(Hold):
    def __init__(self):
        super().__init__()
        self.name = "speech"

class Odd(Hold):
    def __init__(self):
        super().__init__()
        self.name = "a/b"

class Half:
    name, sample_rate, frame_size, channels = "half", 16000, FRAME, 1

    def encode(self, audio, codebooks=None):
        return instance.encode(audio, codebooks=codebooks)

    def decode(self, tokens):
        return instance.decode(tokens)

def fails():
    return 1 / 0
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with two modules in it."""
    path, before = list(sys.path), set(sys.modules)
    (tmp_path / "plugin_code.py").write_text(CODE)
    (tmp_path / "plugin_more.py").write_text(OTHERS)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.path[:] = path
    for module in set(sys.modules) - before:
        if module.startswith(("plugin_", "broken")):
            del sys.modules[module]
    loading._load_torch.cache_clear()


def good(done: Done) -> Done:
    assert done.code == 0, done.err
    return done


def test_names_that_are_code():
    for name in ("a:b", "a.b:c", "_a.b2:c.d"):
        assert is_import(name)
    for name in ("speech", "opus:6", "./a:b", "a/b:c", "a:b@2", "a:", ":b", "a:b:c", Path("a:b")):
        assert not is_import(name)


@pytest.mark.parametrize("name", ["codec", "Hold", "instance", "Nested.hold"])
def test_an_instance_a_function_or_a_class(name: str):
    module = "plugin_more" if name in ("instance", "Nested.hold") else "plugin_code"
    codec = load(f"{module}:{name}")
    assert isinstance(codec, FunctionCodec)
    audio = Audio(torch.zeros(1, 1000), 16000)
    assert len(codec.decode(codec.encode(audio))) == 1000


BAD = {
    "nowhere:codec": "module 'nowhere' cannot be imported: ModuleNotFoundError: .*looked for in",
    "plugin_more:nothing": r"module 'plugin_more' \(.*plugin_more.py\) has no 'nothing'",
    "plugin_more:number": "of type int, not a codec .a subclass of audiotok.Codec; of two",
    "plugin_more:Half": "of type Half, not a codec",
    "plugin_more:Random": "a new Random has random weights: name a function that loads them",
    "plugin_more:Renamed": "calls itself 'speech', the name of another codec here",
    "plugin_more:Odd": "a codec's name is of letters, digits and _ . - only, not 'a/b'",
    "plugin_more:fails": r"calling it fails: ZeroDivisionError: division by zero",
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_codec_is_an_error_of_one_line(name: str):
    with pytest.raises(ExternalCodecError, match=f"^{name}: {BAD[name]}") as caught:
        load(name)
    assert "\n" not in str(caught.value)


def test_our_own_classes_by_their_code():
    with pytest.raises(ExternalCodecError, match="a new Speech has random weights"):
        load("audiotok.codecs.models.speech:Speech")
    Path("plugin_ours.py").write_text("import audiotok\ndef ours(): return audiotok.load('speech')")
    assert isinstance(load("plugin_ours:ours"), Speech)


def test_commands_in_several_processes(folder: Path):
    for i in range(2):
        recording(folder / f"in/{i}.wav", 0.4 + 0.1 * i, seed=i)
    code = ("--codec", "plugin_code:codec")
    good(audiotok("encode", "in", "-o", "tok", "-j", "2", *code))
    good(audiotok("decode", "tok", "-o", "out", *code))
    assert Audio.load("out/1.wav").samples.shape == (1, 8000)
    tokens = Tokens.load("tok/1.tok")
    assert (tokens.codec, tokens.frames, tokens.codebooks) == ("held", 50, 2)
    done = audiotok("decode", "tok", "-o", "again")
    assert done.code == 1
    assert "tokens of codec 'held', which is not here" in done.err

    good(audiotok("corpus", "build", "in", "-o", "corpus", "-j", "1", *code))
    done = audiotok("corpus", "sample", "corpus", "-o", "heard")
    assert done.code == 1
    assert "unknown codecs part 'held'" in done.err
    good(audiotok("corpus", "sample", "corpus", "-o", "heard", *code))
    assert Audio.load("heard/000001.wav").samples.shape == (1, 8000)


def test_a_recipe_has_no_code_imported(folder: Path):
    recording(folder / "in/a.wav", 0.5)
    text = 'codecs = ["plugin_code:codec"]\nmetrics = ["mel"]\n[data]\nmanifest = "in"\n'
    Path("recipe.toml").write_text(text)
    sentence = "code that a recipe names is not imported"
    done = audiotok("bench", "recipe.toml", "-o", "out")
    assert done.code == 1
    assert f"plugin_code:codec: {sentence}" in done.err
    done = audiotok("bench", "recipe.toml", "-o", "out", "--set", 'codecs=["plugin_more:codec@1"]')
    assert f"plugin_more:codec@1: {sentence}" in done.err
    recipe = BenchRecipe(BenchData("in"), codecs=("plugin_code:codec",), metrics=("mel",))
    with pytest.raises(ValueError, match=sentence):
        bench(recipe, "out")
    assert "plugin_code" not in sys.modules
    assert not Path("out").exists()
    done = good(
        audiotok("bench", "recipe.toml", "-o", "out", "--codec", "plugin_code:codec,noise:9")
    )
    assert "plugin_code:codec" in done.out


def test_other_files_have_no_code_imported(folder: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("plugin_code:codec", "plugin_code:Hold"):
        with pytest.raises(ValueError, match=f"unknown codecs part '{name}'"):
            load_checkpoint(name)
    recording(folder / "in/a.wav", 0.5)
    good(audiotok("corpus", "build", "in", "-o", "corpus", "-j", "1", "--codec", "speech"))
    monkeypatch.setattr(Corpus, "codec", property(lambda _: "plugin_code:codec"))
    done = audiotok("corpus", "sample", "corpus", "-o", "heard")
    assert done.code == 1
    assert "names code as its codec, 'plugin_code:codec'" in " ".join(done.err.split())
    audio = Audio(torch.zeros(1, 800), 16000)
    tokens = load("speech").encode(audio)
    forged = replace(tokens, codec="plugin_code:codec")
    forged.save("a.tok")
    done = audiotok("decode", "a.tok", "-o", "a.wav")
    assert done.code == 1
    assert "tokens of codec 'plugin_code:codec', which is not here" in done.err
    assert "plugin_code" not in sys.modules


def test_a_certificate_of_something_with_encode_and_decode_alone():
    done = audiotok("conform", "plugin_more:Half")
    assert done.code == 1
    assert done.out.count("not tried  ") == 7
    assert done.out.count("pass  ") == 3
    assert "chunk           not tried       it lacks exact_chunks, constant_memory, " in done.out
    assert "half (no fingerprint) conforms as far as it could be tried; not tried:" in done.out
    told = audiotok("conform", "plugin_more:Half", "--json").json
    assert told["conforms"] is False
    done = audiotok("conform", "plugin_more:number")
    assert done.code == 1
    sentence = (
        "an object of type int lacks name, sample_rate, frame_size, channels, encode, decode: no"
    )
    assert sentence in " ".join(done.err.split())


def test_a_certificate_of_functions(folder: Path):
    done = good(audiotok("conform", "plugin_code:codec"))
    verdicts = {line[:16].strip(): line[16:32].strip() for line in done.out.splitlines()[:-1]}
    passed = {"round trip", "length", "determinism", "batch", "chunk"}
    assert {check for check, verdict in verdicts.items() if verdict == "pass"} == passed
    assert {*verdicts.values()} == {"pass", "does not apply"}
    assert done.out.splitlines()[-1].startswith("held (")


def test_a_device_that_is_not_there():
    with pytest.raises(DeviceError, match=r"^device cuda:9: .*; there is cpu here$"):
        load("plugin_code:codec", device="cuda:9")
