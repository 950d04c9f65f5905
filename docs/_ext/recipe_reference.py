"""Reference of recipes: keys with their types, ranges, defaults and comments, from dataclasses."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import io
import textwrap
import tokenize
from collections.abc import Iterator
from importlib import import_module
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from markup import cell, code, table

from audiotok._platform.config import range_of


def recipe(path: str) -> str:
    """Return a section for each table of a recipe.

    Args:
        path: the dataclass of the whole recipe, `audiotok.training.recipe.Recipe`.
    """
    module, _, name = path.rpartition(".")
    return "\n\n".join(_tables(getattr(import_module(module), name), ""))


def _tables(kind: type, name: str) -> Iterator[str]:
    """Yield a heading, the docstring and the keys of a table, then those of the tables in it."""
    yield f"### `[{name}]`" if name else "### At the top"
    yield inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0]
    notes, hints = comments(kind), get_type_hints(kind, include_extras=True)
    below, rows = [], []
    for field in dataclasses.fields(kind):
        inner = _table_of(hints[field.name])
        path = f"{name}.{field.name}".lstrip(".")
        if inner:
            several = {dict: f"{path}.NAME", tuple: f"[{path}]"}
            below.append((inner, several.get(get_origin(_bare(hints[field.name])), path)))
        meaning = notes[field.name] or (f"see `[{below[-1][1]}]`" if inner else "")
        rows.append([code(field.name), *_facts(field, hints[field.name]), cell(meaning)])
    yield table(["key", "type", "range", "default", "meaning"], rows)
    for inner, path in below:
        yield from _tables(inner, path)


def _bare(hint: Any) -> Any:
    """Return a type without what it is annotated with."""
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _table_of(hint: Any) -> type | None:
    """Return the dataclass that a key holds, several of, or by name; None where it holds none."""
    bare = _bare(hint)
    choices = [bare, *get_args(bare)]
    return next((one for one in choices if dataclasses.is_dataclass(one)), None)  # type: ignore


def _facts(field: dataclasses.Field[Any], hint: Any) -> list[str]:
    """Return type, range and default of a key."""
    span = range_of(hint)
    return [_type(_bare(hint)), cell(str(span)) if span else "any", _default(field)]


def _default(field: dataclasses.Field[Any]) -> str:
    """Return the default of a key as TOML has it."""
    if field.default is field.default_factory is dataclasses.MISSING:
        return "required"
    if field.default is not dataclasses.MISSING:
        return code(_toml(field.default))
    made = field.default_factory()  # type: ignore[misc] - MISSING is taken care of above
    return "its defaults" if dataclasses.is_dataclass(made) else "empty"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def _type(hint: Any) -> str:
    """Return a type in the words of TOML."""
    origin, inside = get_origin(hint), get_args(hint)
    if dataclasses.is_dataclass(hint):
        return "table"
    if origin is dict:
        return f"table of {_plural(inside[1])}"
    if origin is tuple:
        return f"list of {_plural(inside[0])}"
    if origin is Literal:
        return " or ".join(code(_toml(choice)) for choice in inside)
    if origin in (Union, UnionType):
        return " or ".join(map(_type, inside))
    names = {bool: "boolean", int: "integer", float: "number", str: "string", Any: "anything"}
    return names.get(hint) or cell(str(hint))


def _plural(hint: Any) -> str:
    """Return the plural of a type in the words of TOML."""
    head, space, rest = _type(_bare(hint)).partition(" ")
    return head if head == "anything" else f"{head}s{space}{rest}"


def comments(kind: type) -> dict[str, str]:
    """Return the comment of each field of a dataclass: the one beside it, or else that above it."""
    source = textwrap.dedent(inspect.getsource(kind))
    notes = {
        token.start[0]: (token.string.lstrip("# "), not token.line[: token.start[1]].strip())
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    body = ast.parse(source).body[0]
    assert isinstance(body, ast.ClassDef)
    texts = {}
    for node in body.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
            beside = [notes[line][0] for line in lines if line in notes]
            above, line = [], node.lineno - 1
            while notes.get(line, ("", False))[1]:
                above.insert(0, notes[line][0])
                line -= 1
            texts[node.target.id] = " ".join(beside or above)
    return {field.name: texts.get(field.name, "") for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
