"""The house rules of the code: who may import whom, how light an import is, what README draws."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from audiotok._platform.registry import FAMILIES

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "audiotok"
FILES = sorted(PACKAGE.rglob("*.py"))

# The house in one line: a file imports from its own room, from rooms to its left, and from
# `_platform`, which every room stands on and which knows none.
LINE = tuple(
    "audio tokens nn data runtime codecs evaluation training corpus serving lm cli testing".split()  # noqa: SIM905
)
LONGEST = 400  # lines of a file
# Parts that other parts of their family are made of; no part imports any sibling but these.
SHARED = {
    "nn.layers": {
        "attention",
        "chain",
        "clip_attention",
        "conv",
        "depthwise",
        "feed_forward",
        "group_norm",
        "lstm",
        "residual_unit",
        "snake",
        "transformer_block",
        "transposed_conv",
    },
    "nn.quantizers": {"cosine_vq", "fsq", "lfq", "rvq", "uniform"},
    "codecs.models": {"dac", "mimi"},
    "data.sources": {"parquet"},
    "data.features": {"wav2vec2"},
    "lm.exporters": {"arrow"},
    "evaluation.metrics": {"wer"},
}


def _module(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


MODULES = {_module(file): file for file in FILES}


def _imports(file: Path) -> set[str]:
    """The package's modules that a file imports, wherever in it, but for type checks."""
    tree = ast.parse(file.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            below = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (below & MODULES.keys()) or {node.module or ""}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & MODULES.keys()


@pytest.mark.parametrize("file", FILES, ids=_module)
def test_imports_follow_the_line(file: Path):
    room = file.relative_to(PACKAGE).parts[0]
    if room in ("__init__.py", "__main__.py"):
        return
    allowed = {room, "_platform"} | set(LINE[: LINE.index(room)] if room in LINE else ())
    assert room in (*LINE, "_platform"), f"{room} is no room"
    for name in _imports(file):
        assert name.split(".")[1] in allowed, f"{_module(file)} imports {name}"


@pytest.mark.parametrize("folder", sorted(FAMILIES.values()))
def test_parts_of_a_family_stand_side_by_side(folder: str):
    path = PACKAGE.joinpath(*folder.split("."))
    assert (path / "base.py").is_file()
    for file in path.glob("*.py"):
        mates = {"base"} | SHARED.get(folder, set())
        for name in _imports(file):
            head, _, part = name.rpartition(".")
            assert head != f"audiotok.{folder}" or part in mates, f"{_module(file)} imports {name}"


def test_imports_have_no_cycle():
    graph = {name: _imports(file) - {name} for name, file in MODULES.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError


def test_no_source_is_ignored():
    """What git ignores, linters pass over as well: `build/` once hid a folder of a room."""
    command = ["git", "ls-files", "--cached", "--ignored", "--exclude-standard"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("no git, or not a checkout")
    assert not done.stdout.split()
    settings = (ROOT / "pyproject.toml").read_text("utf-8")
    excluded = re.search(r"^exclude = (\[.*?\])", settings, re.MULTILINE)
    assert excluded, "ruff's defaults exclude `build`"
    folders = {part for file in FILES for part in file.relative_to(ROOT).parts}
    assert not folders & set(ast.literal_eval(excluded[1]))


def test_the_platform_stays_small():
    files = [f for f in FILES if f.parent == PACKAGE / "_platform" and f.stem != "__init__"]
    assert len(files) <= 10
    assert sum(f.read_text("utf-8").count("\n") for f in files) <= 1200  # plug-ins took 170


@pytest.mark.parametrize("file", FILES, ids=_module)
def test_a_file_says_what_it_is_for_and_stays_short(file: Path):
    text = file.read_text("utf-8")
    assert ast.get_docstring(ast.parse(text)), f"{file.name} has no docstring"
    lines = text.count("\n")
    assert lines <= LONGEST, f"{file.name} has {lines} lines: two files"


def test_no_room_is_called_utils():
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "modules"}
    names = {part.removesuffix(".py") for f in FILES for part in f.relative_to(PACKAGE).parts}
    assert not vague & names


def _loaded_by(statement: str) -> set[str]:
    code = f"{statement}; import sys; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_audiotok_is_light():
    heavy = {"torchaudio", "librosa", "encodec", "scipy", "matplotlib", "pesq", "pystoi", "jiwer"}
    assert not heavy & _loaded_by("import audiotok; audiotok.load; audiotok.Audio; audiotok.Tokens")


def test_importing_audiotok_alone_does_not_even_load_torch():
    """Which bounds its time by that of `import torch`, whatever the machine is doing."""
    assert "torch" not in _loaded_by("import audiotok")


def test_reading_tokens_needs_no_torch():
    assert "torch" not in _loaded_by("from audiotok.tokens.tokens import Tokens")
