"""The house rules of the code: who may import whom, how light an import is, what README draws."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "audiotok"
FILES = sorted(PACKAGE.rglob("*.py"))

# A file imports from lower levels only, so files of one level never import each other. A folder
# has one level, and its files may import its base.py; the few exceptions are lower still.
LEVELS = {
    "io": 0,
    "foreign": 2,
    "stepwise": 6,
    "data": 7,
    "analysis": 4,
    "live": 10,
    "jobs": 10,
    "_torchaudio": -1,
    "shapes": 0,
    "finite": 0,
    "initializers": 0,
    "missing": 0,
    "ranges": 0,
    "scripts": 0,
    "registry": 0,
    "interrupt": 0,
    "spectra": 1,
    "tokfile": 1,
    "memory": 1,
    "patterns": 1,
    "layout": 3,
    "packing": 4,
    "exporters": 6,
    "results": 2,
    "tokens": 2,
    "audio": 3,
    "tokenizer": 3,
    "stepping": 3,
    "exported": 4,
    "crowd": 5,
    "backends": 2,
    "corpus": 5,
    "layers": 4,
    "quantizers": 4,
    "recognizers": 4,
    "embedders": 4,
    "anchors": 4,
    "metrics": 5,
    "teachers": 4,
    "discriminators": 4,
    "manifest": 4,
    "place": 4,
    "listings": 5,
    "network": 5,
    "picture": 6,
    "show": 5,
    "recipe": 8,
    "codecs": 7,
    "arrays": 7,
    "checkpoint": 8,
    "export": 8,
    "window": 8,
    "snapshot": 8,
    "stream": 9,
    "serve": 11,
    "client": 12,
    "opening": 9,
    "train": 9,
    "conform": 10,
    "hf": 9,
    "tasks": 9,
    "report": 9,
    "lm": 10,
    "bench": 11,
    "stage": 11,
    "engines": 12,
    "building": 13,
    "commands": 14,
    "__main__": 15,
    "__init__": 15,
    "contrast": 10,
}
LONGEST = 400  # lines of a file


def _home(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(file: Path) -> set[str]:
    """Dotted names inside the package that a file imports, wherever in it, but for type checks."""
    tree = ast.parse(file.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    found = set()
    for node in ast.walk(tree):
        folder = isinstance(node, ast.ImportFrom) and (ROOT / (node.module or "").replace(".", "/"))
        if isinstance(node, ast.ImportFrom) and folder and folder.is_dir():
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.startswith("audiotok.")}


def test_every_file_has_a_level():
    assert {_home(file) for file in FILES} == set(LEVELS)


# Parts of one family that build on each other, each with its reason.
WITHIN = {
    # Containers are looked into before a library decodes them; what is decoded is resampled; what
    # is written has another name until it is complete.
    "io": {
        "libsndfile": {"headers", "mp3", "ogg"},
        "decoders": {"ffmpeg", "headers", "libsndfile", "ogg", "torchcodec"},
        "folder": {"columns", "decoders", "delimited", "jsonfile", "walk"},
        "commands": {"decoders", "lock"},
        "sink": {"decoders", "part"},
        "source": {"bare", "decoders", "levels", "resample"},
    },
    # State by state, passage by passage, then pieces of one signal or many signals abreast.
    "stepwise": {
        "passage": {"held", "states"},
        "pieces": {"passage"},
        "abreast": {"passage", "states"},
    },
    "stepping": {"pieces": {"plan"}},
    # Crops come from a pool or from the files, batches of them from other processes.
    "data": {"direct": {"pool"}, "batches": {"augment", "direct", "pool"}, "loader": {"batches"}},
    # A plan says what becomes of each file, workers do it.
    "jobs": {"plan": {"workers"}, "run": {"files", "plan", "workers"}, "roundtrip": {"files"}},
    # A pipe and a microphone are timed; a meter shows either.
    "live": {
        "pipe": {"latency", "pcm"},
        "microphone": {"latency", "pipe"},
        "meter": {"microphone", "pipe"},
    },
    # A file is read under the names that it uses.
    "foreign": {"read": {"dialects"}},
    # Composite layers are made of simple ones.
    "layers": {
        "convnext": set(),
        "residual_unit": {"conv", "snake"},
        "seanet": {"conv", "transposed_conv", "lstm", "residual_unit", "snake", "group_norm"},
        "noise_block": {"conv"},
    },
    # Their codebooks are those of residual quantization; grids and signs come in two kinds each.
    "quantizers": {
        "split_rvq": {"rvq"},
        "multi_scale_rvq": {"rvq"},
        "segment_rvq": {"rvq"},
        "product_vq": {"rvq"},
        "agrvq": {"rvq"},
        "simvq": {"rvq"},
        "residual_fsq": {"fsq"},
        "bsq": {"lfq"},
    },
    # A file is laid out, read, mended, written, in that order.
    "tokfile": {
        "__init__": {"layout", "read", "damage", "pipe", "write"},
        "read": {"layout"},
        "pipe": {"layout", "read"},
        "damage": {"layout", "read"},
        "write": {"layout", "read"},
    },
    # A corpus is read as it is written.
    "corpus": {
        "__init__": {"read", "shard"},
        "read": {"shard"},
        "shard": {"ans"},
        "check": {"inputs", "read", "shard", "write"},
        "change": {"read", "shard", "write"},
        "usage": {"read"},
        "squeeze": {"ans", "read", "write"},
    },
    # A corpus of Hugging Face's is rows as Parquet has them.
    "listings": {"huggingface": {"parquet"}},
    # A build keeps its state, and is planned before it is run.
    "building": {
        "__init__": {"run"},
        "run": {"changed", "folder", "state", "progress"},
        "state": {"folder", "log", "seals"},
        "forecast": {"run"},
    },
    # HuBERT and WavLM are wav2vec 2.0's network, trained otherwise.
    "teachers": {"hubert": {"wav2vec2"}, "wavlm": {"wav2vec2"}},
    # What a layout is, then there, back, and a piece at a time.
    "layout": {
        "__init__": {"grammar", "sequence", "streaming"},
        "base": {"units"},
        "sequence": {"inverse", "runs"},
        "grammar": {"sequence"},
        "streaming": {"runs", "sequence"},
    },
    # One table in three files.
    "exporters": {"parquet": {"arrow"}, "hf": {"arrow"}},
    # Four ways to count the same words.
    "metrics": {"cer": {"wer"}, "mer": {"wer"}, "wil": {"wer"}},
    # A report is written as tables and as a page, whose clips and usage are pictures.
    "report": {
        "__init__": {"write"},
        "write": {"markdown", "page", "tables"},
        "page": {"clips", "usage"},
        "clips": {"image"},
        "usage": {"image"},
    },
    # A protocol; a thread that steps, a room of sessions that it serves; the client's side.
    "serve": {
        "payload": {"schema"},
        "protocol": {"payload", "schema"},
        "talk": {"protocol"},
        "engine": {"protocol", "steps", "turns"},
        "room": {"engine", "metrics", "protocol"},
        "session": {"engine", "protocol", "room"},
        "app": {"engine", "metrics", "protocol", "room", "session", "steps"},
        "run": {"app", "room", "steps"},
    },
    # A codec's layers take forms that can be traced; what is traced is written, shrunk, compared.
    "export": {
        "forms": {"sequences"},
        "graphs": {"forms", "sequences"},
        "folder": {"graphs", "int8", "parity"},
    },
    # A bench is run in workers, gathered and summed up; tasks follow.
    "bench": {
        "__init__": {"run"},
        "run": {"subjects", "work", "gather", "exam"},
        "gather": {"subjects", "work", "summary"},
        "work": {"subjects"},
        "exam": {"subjects", "work"},
    },
    # Recipes have sizes, batches pieces; the loop trains and scores.
    "lm": {
        "spans": {"interleave"},
        "model": {"phonetic"},
        "data": {"bpe", "phonetic", "recipe", "spans"},
        "file": {"model"},
        "entries": {"model"},
        "recipe": {"model"},
        "contexts": {"data", "recipe"},
        "resume": {"recipe"},
        "loop": {"contexts", "data", "entries", "file", "model", "recipe", "resume"},
        "generate": {"data", "model", "phonetic"},
        "score": {"data", "loop", "model", "ngram"},
    },
    # The loop runs steps, a step the losses of its players.
    "train": {
        "step": {"losses", "machine", "players", "schedule", "targets"},
        "players": {"balancer"},
        "targets": {"distillation"},
        "estimate": {"machine", "players", "step"},
        "loop": {
            "journal",
            "losses",
            "machine",
            "players",
            "resume",
            "schedule",
            "step",
            "targets",
            "validation",
        },
    },
}


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_imports_go_down_only(file: Path):
    home = _home(file)
    for name in _imports(file):
        parts = name.split(".")
        other = parts[1]
        if other not in LEVELS:  # a name that audiotok/__init__ hands on
            assert LEVELS[home] == max(LEVELS.values()), f"{file.name} imports {name}"
        elif other == home:
            mates = WITHIN.get(home, {}).get(file.stem, set())
            assert parts[2:] == ["base"] or (len(parts) > 2 and parts[2] in mates), (
                f"{file.relative_to(ROOT)} imports its sibling {name}"
            )
        else:
            assert LEVELS[other] < LEVELS[home], f"{file.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
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
    assert "torch" not in _loaded_by("from audiotok.tokens import Tokens")


def _tree(text: str) -> set[str]:
    """Paths of a drawn tree: two spaces a level, folders end in a slash."""
    found, above = set(), []
    for line in text.splitlines():
        match = re.match(r"( *)(\S+)", line)
        if not match:
            continue
        depth = len(match[1]) // 2
        above = [*above[:depth], match[2]]
        found.add("".join(above))
    return found


def test_the_tree_in_readme_is_the_real_one():
    readme = (ROOT / "README.md").read_text("utf-8")
    block = re.search(r"```text\n(audiotok/\n.*?)```", readme, re.DOTALL)
    assert block, "README has no tree"
    drawn = _tree(block[1])
    real = {"audiotok/"}
    for file in FILES:
        relative = file.relative_to(ROOT)
        if relative.name == "__init__.py" and len(relative.parts) > 2:
            real.add(f"{relative.parent}/")
        else:
            real.add(str(relative))
    real.add("audiotok/codecs/weights/")
    assert drawn == real, f"missing {sorted(real - drawn)}, gone {sorted(drawn - real)}"
