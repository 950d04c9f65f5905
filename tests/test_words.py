"""The words of the code: the field's, one for each idea (docs/glossary.md)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

FILES = sorted((Path(__file__).parents[1] / "audiotok").rglob("*.py"))
UNCLEAR = {
    *("reach", "lead", "ahead", "early", "crowd", "abreast", "passage", "held", "place", "stage"),
    *("opening", "foreign", "contrast", "players", "judges", "room", "guest", "talk", "heard"),
    *("told", "made", "found", "about", "said"),
}
# Names of files, of options in recipes and of tensors in checkpoints, which are on disk.
KEPT = {
    "nn/quantizers/rvq.py": {"early"},
    "lm/model.py": {"told"},
    "evaluation/results.py": {"about"},
    **{f"training/discriminators/{name}.py": {"judges"} for name in ("mpd", "mrd", "msd")},
    **{f"training/discriminators/{name}.py": {"judges"} for name in ("ms_stft", "multi_band")},
}
OPENERS = re.compile(r"(What|Who|Whose|How|Where|When|Whether|Everything|Of|The same)\b")


def _trees() -> Iterator[tuple[str, ast.Module]]:
    for file in FILES:
        yield str(file.relative_to(FILES[0].parent)), ast.parse(file.read_text("utf-8"))


TREES = dict(_trees())


def _names(tree: ast.Module) -> Iterator[str]:
    """Names that a file gives to something."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


@pytest.mark.parametrize("file", TREES)
def test_names_are_the_fields(file: str):
    names = {*_names(TREES[file]), *re.split(r"[/.]", file)}
    unclear = {name for name in names if name.lower().strip("_") in UNCLEAR}
    assert unclear <= KEPT.get(file, set())


@pytest.mark.parametrize("file", TREES)
def test_docstrings_are_no_riddles(file: str):
    for node in ast.walk(TREES[file]):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            line = (ast.get_docstring(node) or "").partition("\n")[0]
            assert not OPENERS.match(line), line


@pytest.mark.parametrize("file", TREES)
def test_attributes_are_set_one_a_line(file: str):
    for node in ast.walk(TREES[file]):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple):
            parts = [part for target in node.targets for part in ast.walk(target)]
            if any(isinstance(part, ast.Tuple) for part in parts):
                assert not any(isinstance(part, ast.Attribute) for part in parts), ast.unparse(node)
