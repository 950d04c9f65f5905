"""The tree of the package, from the first lines of docstrings; files are parsed, not imported."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from markup import cell, code, prose, table

from audiotok._platform.registry import FAMILIES

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "audiotok"
LINE = (
    *("audio", "tokens", "nn", "data", "runtime", "codecs", "evaluation", "training", "corpus"),
    *("serving", "lm", "cli", "testing"),
)
"""The rooms, from left to right: a file imports from its own room and from those before it."""


def summary(file: Path) -> str:
    """Return the first sentence of a file's docstring, without its line breaks."""
    paragraph = _docstring(file).partition("\n\n")[0]
    return re.sub(r"\s+", " ", paragraph)


def _docstring(file: Path) -> str:
    return ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""


def rooms(_: str = "") -> str:
    """Return the list of rooms, each with the first line of its docstring."""
    rows = [
        [f"[`{room}/`](#room-{room.strip('_')})", cell(summary(PACKAGE / room / "__init__.py"))]
        for room in ("_platform", *LINE)
    ]
    return table(["room", "what it holds"], rows)


def modules(_: str = "") -> str:
    """Return a section for each room: every file of it, with the first line of its docstring."""
    sections = []
    for room in ("_platform", *LINE):
        head = f"(room-{room.strip('_')})=\n### `{room}/`"
        sections.append(f"{head}\n\n{table(['file', 'what it holds'], _files(room))}")
    return "\n\n".join(sections)


def _files(room: str) -> Iterator[list[str]]:
    """Yield a row for each file of a room; a folder's stands before those of its files."""
    files = (PACKAGE / room).rglob("*.py")
    for file in sorted(files, key=lambda file: file.relative_to(PACKAGE).with_suffix("").parts):
        below = file.relative_to(PACKAGE / room)
        if below != Path("__init__.py"):
            name = f"{below.parent}/" if below.name == "__init__.py" else str(below)
            yield [code(name), cell(summary(file))]


def parts(_: str = "") -> str:
    """Return a section for each family of parts: their names, each with its first line."""
    sections = []
    for family, folder in FAMILIES.items():
        path = PACKAGE.joinpath(*folder.split("."))
        files = sorted(path.glob("*.py"))
        rows = [
            [code(file.stem), cell(summary(file))]
            for file in files
            if file.stem not in ("__init__", "base")
        ]
        head = f"## {folder.rpartition('.')[2].capitalize()}"
        where = f"The family `{family}` is in `audiotok/{path.relative_to(PACKAGE)}`."
        say = f"{summary(path / 'base.py')} {where}"
        sections.append(f"{head}\n\n{say}\n\n{table(['name', 'what it is'], rows)}")
    return "\n\n".join(sections)


def docstring(name: str) -> str:
    """Return the docstring of a module as Markdown.

    Args:
        name: name of the module, `audiotok.tokens`.
    """
    path = ROOT.joinpath(*name.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return prose(inspect.cleandoc(_docstring(file)))
