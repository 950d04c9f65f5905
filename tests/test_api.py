"""The interface: which names are public, that they stay as they are, and how one is given up."""

from __future__ import annotations

import ast
import builtins
import difflib
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commandline import environment, recording, small
from corpora import corpus_of
from golden.api import STORED, WITH_EXTRAS, public_modules

import audiotok
from audiotok import codecs, data, evaluation, lm, nn, training
from audiotok._platform.errors import deprecated, deprecated_argument, gone_in
from audiotok._platform.optional import lazy_names
from audiotok.corpus.build import Work, build
from audiotok.lm.generate import Sampling
from audiotok.serving.server.run import listen

ROOT = Path(__file__).parents[1]
MODULES = public_modules()
ROOMS = "audio tokens nn data runtime codecs evaluation training corpus serving lm cli".split()  # noqa: SIM905
HOW = (
    "the interface is another. If that is meant: python tests/golden/api.py --write, and a line "
    "in CHANGELOG.md.\nA name or an argument that goes is deprecated for two minor releases first "
    "(audiotok/_platform/errors.py).\n"
)


def test_names_and_signatures_are_as_stored():
    """In a process of its own, in which no decorator of the tests is around the functions."""
    command = [sys.executable, str(STORED.with_name("api.py"))]
    done = subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    stored, now = STORED.read_text("utf-8").splitlines(), done.stdout.splitlines()
    changes = [*difflib.unified_diff(stored, now, "api.txt", "now", n=0, lineterm="")]
    if changes:
        pytest.fail(HOW + "\n".join(changes), pytrace=False)


def test_every_room_declares_its_names():
    assert {"audiotok", *(f"audiotok.{room}" for room in ROOMS)} <= set(MODULES)
    wanted = "Audio Tokens Codec Stream StreamBatch Corpus Layout Error load names".split()  # noqa: SIM905
    assert set(wanted) <= set(import_module("audiotok").__all__)
    assert re.fullmatch(r"\d+\.\d+\.\d+", audiotok.__version__)


@pytest.mark.parametrize("name", MODULES)
def test_public_names_are_there_and_documented(name: str):
    module, found = import_module(name), {}
    exec(f"from {name} import *", found)
    assert sorted(set(module.__all__)) == sorted(module.__all__)
    assert set(module.__all__) <= found.keys()
    for public in module.__all__:
        value = getattr(module, public)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__doc__, f"{name}.{public} has no docstring"


@pytest.mark.parametrize("name", MODULES)
def test_a_module_hides_no_public_name(name: str):
    """`from room import x` gives the module x if that was imported before, never a name x."""
    module = import_module(name)
    if hasattr(module, "__path__"):
        folder = Path(module.__path__[0])
        beside = {path.stem for path in folder.iterdir() if path.name != "__pycache__"}
        assert not beside & set(module.__all__)


@pytest.mark.parametrize("room", [r for r in MODULES if r.count(".") < 2 and r != "audiotok.cli"])
def test_a_room_says_what_it_has(room: str):
    module = import_module(room)
    assert set(module.__all__) <= set(dir(module))
    with pytest.raises(AttributeError, match=rf"'{room}' has no attribute 'nothing'; it has \w+"):
        module.nothing  # noqa: B018


# What is written for readers, imports only what is public.


SHOWN = ("docs", "egs", "recipes")


def _python_of(file: Path) -> Iterator[str]:
    """Yield the Python in a file: all of it, or cells of a notebook, blocks of a page or script."""
    text = file.read_text("utf-8")
    if file.suffix == ".py":
        yield text
    elif file.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        yield from ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    elif file.suffix == ".sh":
        yield from (m[2] for m in re.finditer(r"(?ms)<<'(\w+)'\n(.*?)\n\1$", text))
    else:
        yield from (m[1] for m in re.finditer(r"(?ms)^ *```python\n(.*?)```", text))


IMPORT = re.compile(
    r"(?m)^ *(?:from (audiotok[\w.]*) import (\([^)]*\)|[^\n#]*)|import (audiotok[\w.]*))"
)
READ = sorted(
    file
    for file in (ROOT / "README.md", *(f for d in SHOWN for f in (ROOT / d).rglob("*.*")))
    if file.suffix in (".md", ".py", ".sh", ".ipynb")
    and not {"node_modules", "_ext", "conf.py"} & set(file.parts)
)


def _private(code: str) -> Iterator[str]:
    """Yield the names of audiotok that code imports although no `__all__` lists them."""
    for module, names, whole in IMPORT.findall(code):
        if whole and whole not in (*MODULES, *WITH_EXTRAS):
            yield whole
        listed = getattr(import_module(module), "__all__", ()) if module in MODULES else ()
        for name in re.findall(r"\w+", re.sub(r" as \w+", "", names)):
            if name not in listed and module not in WITH_EXTRAS:
                yield f"{module}.{name}"


@pytest.mark.parametrize("file", READ, ids=lambda file: str(file.relative_to(ROOT)))
def test_readers_are_shown_public_names_only(file: Path):
    assert not [name for code in _python_of(file) for name in _private(code)]


def test_a_private_name_is_noticed():
    code = "from audiotok.lm.bpe import (\n    learn_pieces,\n)\nimport audiotok.lm.bpe\n"
    assert [*_private(code)] == ["audiotok.lm.bpe.learn_pieces", "audiotok.lm.bpe"]
    assert [*_private("from audiotok.lm import learn_pieces as learn\nimport audiotok")] == []


# Errors: one base.

TREES = {file: ast.parse(file.read_text("utf-8")) for file in (ROOT / "audiotok").rglob("*.py")}
BUILT_IN = {name for name, kind in vars(builtins).items() if isinstance(kind, type)}


def test_every_error_derives_from_one_base():
    classes = [n for tree in TREES.values() for n in ast.walk(tree) if isinstance(n, ast.ClassDef)]
    bases = {node.name: {ast.unparse(base) for base in node.bases} for node in classes}
    errors = {name for name in bases if name.endswith("Error")}
    assert len(errors) > 25
    ours = {"Error"}
    while more := {name for name, of in bases.items() if of & ours} - ours:
        ours |= more
    assert errors | {"Error"} == ours
    raised = {name for name in BUILT_IN if issubclass(getattr(builtins, name), BaseException)}
    assert not {name for name, of in bases.items() if of & raised} - ours - {"Error"}


def test_bad_input_raises_no_bare_built_in_error():
    bare = []
    for file, tree in TREES.items():
        name = str(file.relative_to(ROOT / "audiotok"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Raise) and node.exc:
                kind = ast.unparse(node.exc).partition("(")[0]
                if kind in ("ImportError", "OSError", "TypeError", "ValueError"):
                    bare.append(f"{name}, line {node.lineno}: {kind}")
    assert not bare


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a good recording, and files that are broken each in its way."""
    folder = tmp_path_factory.mktemp("bad")
    recording(folder / "good.wav")
    (folder / "empty").mkdir()
    (folder / "broken.wav").write_bytes(b"RIFF....no")
    (folder / "broken.tok").write_bytes(b"no tokens")
    (folder / "broken.safetensors").write_bytes(bytes(99))
    (folder / "broken.toml").write_text("a = [")
    (folder / "unknown.toml").write_text("nothing = 1\n")
    (folder / "broken.json").write_text("{")
    (folder / "column.tsv").write_text("file\nx.wav\n")
    return folder


def _codec() -> audiotok.Codec:
    return audiotok.load(small())


def _tokens() -> audiotok.Tokens:
    return _codec().encode(audiotok.Audio(torch.zeros(1, 1600), 16000))


def _audio(value: float = 0.0, rate: int = 16000) -> audiotok.Audio:
    return audiotok.Audio(torch.full((1, 1600), value), rate)


def _layout(**options: Any) -> audiotok.Layout:
    return audiotok.Layout.of(_tokens(), **{"codebooks": 2, **options})


BAD: dict[str, Callable[[Path], Any]] = {
    "a recording that is missing": lambda f: audiotok.Audio.load(f / "none.wav"),
    "a recording that is broken": lambda f: audiotok.Audio.load(f / "broken.wav"),
    "a recording cut backwards": lambda f: audiotok.Audio.load(f / "good.wav", start=2, end=1),
    "a recording that is there": lambda f: _audio().save(f / "good.wav"),
    "a format that is none": lambda f: _audio().save(f / "new.xyz"),
    "samples of integers": lambda f: audiotok.Audio(torch.zeros(1, 9).long(), 16000),
    "a rate of nothing": lambda f: _audio(rate=0),
    "another rate of nothing": lambda f: _audio().resample(0),
    "rates that differ": lambda f: audiotok.Audio.cat([_audio(), _audio(rate=8000)]),
    "samples that are no numbers": lambda f: _codec().encode(_audio(float("nan"))),
    "tokens that are missing": lambda f: audiotok.Tokens.load(f / "none.tok"),
    "tokens that are broken": lambda f: audiotok.Tokens.load(f / "broken.tok"),
    "tokens of another codec": lambda f: audiotok.load(small(1)).decode(_tokens()),
    "a codec that is misspelt": lambda f: audiotok.load("spech"),
    "weights that are missing": lambda f: audiotok.load(f / "none.safetensors"),
    "weights that are broken": lambda f: audiotok.load(f / "broken.safetensors"),
    "a card that is broken": lambda f: codecs.read_card(f / "broken.safetensors"),
    "a backend that is none": lambda f: audiotok.load("speech", backend="none"),
    "a folder that is no export": lambda f: audiotok.load(f / "empty", backend="onnx"),
    "a family that is none": lambda f: audiotok.names("none"),
    "a part that is none": lambda f: audiotok.find("metrics", "none"),
    "a snapshot that is none": lambda f: audiotok.Stream.restore(_codec(), b"none"),
    "a corpus that is missing": lambda f: audiotok.Corpus(f / "none"),
    "a corpus that is empty": lambda f: audiotok.Corpus(f / "empty"),
    "recordings that are missing": lambda f: build(
        str(f / "none"), f / "new", Work(codec="speech")
    ),
    "a manifest that is missing": lambda f: data.read_manifest(f / "none.tsv"),
    "a manifest without paths": lambda f: data.read_manifest(f / "column.tsv"),
    "a folder without audio": lambda f: data.write_manifest(f / "empty", f / "new.tsv"),
    "a recipe that is missing": lambda f: training.read_recipe(f / "none.toml"),
    "a recipe that is broken": lambda f: training.read_recipe(f / "broken.toml"),
    "a key that is unknown": lambda f: training.read_recipe(f / "unknown.toml"),
    "results that are broken": lambda f: evaluation.Results.load(f / "broken.json"),
    "a recognizer that is none": lambda f: evaluation.recognizer("none:none"),
    "a layout that is missing": lambda f: audiotok.Layout.load(f / "none.json"),
    "a layout that is broken": lambda f: audiotok.Layout.load(f / "broken.json"),
    "a pattern that is none": lambda f: _layout(pattern="none"),
    "more codebooks than there are": lambda f: _layout(codebooks=99),
    "ids that are none": lambda f: _layout().decode(np.array([10**6])),
    "codes that are none": lambda f: _layout().encode(np.full((2, 3), 10**6)),
    "a model that is missing": lambda f: lm.load_model(f / "none.safetensors"),
    "a model that is broken": lambda f: lm.load_model(f / "broken.safetensors"),
    "ids that are missing": lambda f: lm.Packed(f / "empty", context=8),
    "a temperature below zero": lambda f: Sampling(temperature=-1),
    "more codebooks than tokens have": lambda f: _tokens().first(99),
    "tokens that do not go together": lambda f: _tokens().cat(
        audiotok.load(small(1)).encode(_audio())
    ),
    "tokens cut backwards": lambda f: _tokens().cut(2, 1),
    "more codebooks than the codec has": lambda f: _codec().encode(_audio(), codebooks=99),
    "no codebooks": lambda f: _codec().encode_batch([_audio()], codebooks=0),
    "a context where none is needed": lambda f: audiotok.Stream(_codec(), context=1.0),
    "no levels": lambda f: nn.Fsq(4, levels=()),
    "recordings of unequal length": lambda f: audiotok.find("metrics", "si_sdr")().score(
        _audio(), audiotok.Audio(torch.zeros(1, 9), 16000)
    ),
    "a host that is none": lambda f: listen("256.0.0.1", 0),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_raises_an_audiotok_error(case: str, bad: Path):
    with pytest.raises(audiotok.Error) as caught:
        BAD[case](bad)
    assert isinstance(caught.value, (ValueError, TypeError, OSError))  # as without knowing audiotok
    assert len(str(caught.value).splitlines()) == 1


def test_a_recording_that_a_corpus_has_not(tmp_path: Path):
    codes = {"one": np.zeros((2, 5), np.int64)}
    corpus = audiotok.Corpus(corpus_of(tmp_path / "corpus", codes, rows={"one": {}}))
    for wrong in ("other", 1, -2):
        with pytest.raises(audiotok.Error, match=r" has (1|no) recording") as caught:
            corpus[wrong]
        assert isinstance(caught.value, LookupError)


# What goes is said two releases before.


@deprecated(since="0.2", instead="new")
def old(x: int) -> int:
    """Return x."""
    return x


@deprecated_argument("depth", since="0.2", instead="codebooks")
def cut(x: int, *, codebooks: int = 0) -> int:
    """Return the sum."""
    return x + codebooks


def test_a_name_works_for_two_minor_releases():
    assert (gone_in("0.2"), gone_in("0.9.1"), gone_in("1.0")) == ("0.4", "0.11", "1.2")


def test_a_deprecated_function_works_and_says_what_to_write_instead():
    with pytest.warns(FutureWarning, match=r"^old is .* since audiotok 0\.2 and .* 0\.4; use new$"):
        assert old(3) == 3
    assert (old.__name__, old.__doc__) == ("old", "Return x.")


def test_users_see_the_warning_at_their_own_line():
    code = (
        "from audiotok._platform import errors\n"
        "from audiotok._platform.optional import lazy_names\n"
        "from audiotok import lm as module\n"
        "module.__getattr__ = lazy_names('lm', module.__file__, {'learn': ('Ngram', '0.2')})[0]\n"
        "@errors.deprecated_argument('depth', since='0.2', instead='codebooks')\n"
        "@errors.deprecated(since='0.2', instead='new')\n"
        "def old(codebooks): pass\n"
        "old(1)\n"
        "old(depth=1)\n"
        "from audiotok.lm import learn\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=60, check=True
    )
    seen = re.findall(r"^(\S+): FutureWarning: (\S+)", done.stderr, re.MULTILINE)
    assert ("<string>:9", "old(depth=...)") in seen
    assert ("<string>:10", "lm.learn") in seen


def test_a_deprecated_argument_is_passed_by_its_new_name():
    with pytest.warns(FutureWarning, match=r"cut\(depth=\.\.\.\) .* gone in 0\.4; use codebooks=$"):
        assert cut(1, depth=2) == 3  # pyright: ignore[reportCallIssue]
    assert cut(1, codebooks=2) == 3  # without a warning, which would be an error
    with pytest.raises(audiotok.Error, match="the same as codebooks="):
        cut(1, codebooks=2, depth=2)  # pyright: ignore[reportCallIssue]


def test_a_renamed_name_of_a_room_is_the_new_one(tmp_path: Path):
    stub = tmp_path / "__init__.pyi"
    stub.write_text("from audiotok.lm.bpe import learn_pieces as learn_pieces\n")
    renamed = {"learn": ("learn_pieces", "0.2")}
    get, _, listed = lazy_names("audiotok.lm", str(stub.with_suffix(".py")), renamed)
    assert listed == ["learn_pieces"]
    with pytest.warns(
        FutureWarning, match=r"^audiotok\.lm\.learn is .* audiotok\.lm\.learn_pieces$"
    ):
        assert get("learn") is lm.learn_pieces


def test_what_is_deprecated_goes_when_it_should():
    """A deprecation that is still here in the release that drops it has been forgotten."""
    now = [int(part) for part in audiotok.__version__.split(".")[:2]]
    for file in TREES:
        for since in re.findall(r'since="([\d.]+)"', file.read_text("utf-8")):
            assert now < [int(part) for part in gone_in(since).split(".")], file
