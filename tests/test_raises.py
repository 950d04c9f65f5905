"""Docstrings say of errors what the code does: they exist, and what is raised is among them."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
TREES = {path: ast.parse(path.read_text("utf-8")) for path in (ROOT / "audiotok").rglob("*.py")}
SECTION = re.compile(r"^Raises:\n((?:    .*\n?|\n)+)", re.MULTILINE)
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
# Bases of every class here by its name.
BASES = {
    node.name: [ast.unparse(base).rpartition(".")[2] for base in node.bases]
    for tree in TREES.values()
    for node in ast.walk(tree)
    if isinstance(node, ast.ClassDef)
}


def kinds(name: str) -> set[str]:
    """Names of an error and of all that it derives from; none if there is no such error."""
    standard = getattr(builtins, name, None)
    if isinstance(standard, type):
        return {each.__name__ for each in standard.mro()}
    if name not in BASES:
        return set()
    return {name}.union(*(kinds(base) for base in BASES[name]))


def within(node: ast.AST) -> Iterator[ast.AST]:
    """What stands in a function outside of functions and classes in it, and of what is tried.

    An error that is raised where it is tried may be another when it leaves.
    """
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (*DEFINITIONS, ast.Lambda)) and not (
            isinstance(node, ast.Try) and child in node.body
        ):
            yield child
            yield from within(child)


def documented() -> Iterator[tuple[str, ast.AST, list[str]]]:
    """Each definition with a section of errors: where it is, itself, and their names."""
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, DEFINITIONS):
                section = SECTION.search(ast.get_docstring(node) or "")
                if section:
                    names = re.findall(r"^    ([A-Za-z0-9_.]+):", section[1], re.MULTILINE)
                    place = f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
                    yield place, node, names


def constructed(node: ast.AST) -> ast.AST:
    """The function of a class that checks what it is given; a function itself."""
    if isinstance(node, ast.ClassDef):
        own = {each.name: each for each in node.body if isinstance(each, ast.FunctionDef)}
        return own.get("__init__") or own.get("__post_init__") or ast.Pass()
    return node


def test_errors_that_docstrings_name_exist():
    unknown = [
        f"{place}: {name}"
        for place, _, names in documented()
        for name in names
        if "." not in name and "BaseException" not in kinds(name)  # of another library
    ]
    assert not unknown


def test_errors_that_are_raised_are_among_those_named():
    missing = []
    for place, node, names in documented():
        for each in within(constructed(node)):
            if isinstance(each, ast.Raise) and isinstance(each.exc, ast.Call):
                raised = ast.unparse(each.exc.func).rpartition(".")[2]
                if "Exception" in kinds(raised) and kinds(raised).isdisjoint(names):
                    missing.append(f"{place}: {raised}")
    assert not missing
