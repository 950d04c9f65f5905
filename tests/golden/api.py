"""Prints every public name with its kind and signature; `api.txt` is what it printed.

    python tests/golden/api.py --write

Public is what an `__all__` of the package lists. tests/test_api.py compares: a change of the
interface has to be written down there, and shows in its review.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
from collections.abc import Iterator
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
STORED = Path(__file__).with_name("api.txt")
WITH_EXTRAS = {"audiotok.codecs.transformers"}  # public too, of libraries that tests run without
SPECIAL = "__add__ __call__ __contains__ __enter__ __exit__ __getitem__ __iter__ __len__".split()  # noqa: SIM905


class _Source(str):
    """Annotation or default that is printed as it is, without quotes."""

    __repr__ = str.__str__


def public_modules() -> list[str]:
    """Return the names of all modules of the package that define `__all__`, sorted."""
    found = []
    for file in (ROOT / "audiotok").rglob("*.py"):
        nodes = ast.walk(ast.parse(file.read_text("utf-8")))
        targets = (n for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))
        if any(name.id == "__all__" for name in targets):
            parts = file.relative_to(ROOT).with_suffix("").parts
            found.append(".".join(parts).removesuffix(".__init__"))
    return sorted(set(found) - WITH_EXTRAS)


def _annotation(value: Any) -> Any:
    """Return an annotation, a string as its source; NamedTuple keeps those as ForwardRef."""
    value = getattr(value, "__forward_arg__", value)
    return _Source(value) if isinstance(value, str) else value


def _default(value: Any) -> Any:
    """Return a default: what has no literal by its name or its type, which no run changes."""
    if value is inspect.Parameter.empty or isinstance(value, str | int | float | tuple | None):
        return value
    if str(value) == "<factory>":  # of a dataclass
        return value
    return _Source(getattr(value, "__qualname__", type(value).__qualname__))


def _signature(function: Any, *, without_first: bool = False) -> str:
    """Return the signature of a function or class as in the source."""
    signature = inspect.signature(function)
    parameters = [
        p.replace(annotation=_annotation(p.annotation), default=_default(p.default))
        for p in list(signature.parameters.values())[1 if without_first else 0 :]
    ]
    returns = _annotation(signature.return_annotation)
    return str(signature.replace(parameters=parameters, return_annotation=returns))


def _own_classes(kind: type) -> list[type]:
    """Return the classes of audiotok that a class is made of, itself first."""
    return [one for one in kind.__mro__ if one.__module__.partition(".")[0] == "audiotok"]


def _members(kind: type, public: set[type]) -> Iterator[str]:
    """Yield the public members of a class, a line each, without those of its public bases."""
    inherited = {one for base in kind.__mro__[1:] if base in public for one in base.__mro__}
    members: dict[str, str] = {}
    for one in reversed(_own_classes(kind)):
        if one in inherited:
            continue
        fields = {f.name for f in dataclasses.fields(one)} if dataclasses.is_dataclass(one) else ()
        for name, hint in vars(one).get("__annotations__", {}).items():
            if name not in fields:  # those are arguments of the class
                members[name] = f"attribute {_annotation(hint)}"
        for name, value in vars(one).items():
            text = _member(value)
            if text is not None:
                members[name] = text
    for name, text in sorted(members.items()):
        if not name.startswith("_") or name in SPECIAL:
            yield f".{name}: {text}"


def _member(value: Any) -> str | None:
    """Return kind and signature of what a class holds; None of plain values."""
    if isinstance(value, classmethod):
        return f"classmethod {_signature(value.__func__, without_first=True)}"
    if isinstance(value, staticmethod):
        return f"staticmethod {_signature(value.__func__)}"
    if isinstance(value, property | cached_property):
        getter: Any = value.fget if isinstance(value, property) else value.func
        return f"property {_annotation(inspect.signature(getter).return_annotation)}"
    if inspect.isfunction(value):
        return f"method {_signature(value, without_first=True)}"
    return None


def _constructor(kind: type, public: set[type]) -> str:
    """Return the arguments and the public bases of a class; of an error, all its bases."""
    if issubclass(kind, Exception):
        return f"error of {', '.join(base.__name__ for base in kind.__bases__)}"
    bases = [base.__name__ for base in kind.__mro__[1:] if base in public]
    text = f"class of {', '.join(bases)}" if bases else "class"
    builds = any({"__init__", "__new__"} & vars(one).keys() for one in _own_classes(kind))
    if not builds or getattr(kind, "_is_protocol", False):
        return text
    return f"{text} {_signature(kind).removesuffix(' -> None')}"


def _described(value: Any, name: str, public: set[type]) -> Iterator[str]:
    """Yield a line for what has a public name and, if it is a class, for each public member."""
    if inspect.isclass(value):
        yield f"{name}: {_constructor(value, public)}"
        if not issubclass(value, Exception):
            yield from (name + member for member in _members(value, public))
    elif callable(value):
        yield f"{name}: function {_signature(value)}"
    else:
        yield f"{name}: {type(value).__name__}"


def interface() -> str:
    """Return all public names; one that another module lists too is described there only."""
    modules = [import_module(name) for name in public_modules()]
    listed = [getattr(module, name) for module in modules for name in module.__all__]
    public = {value for value in listed if inspect.isclass(value)}
    lines: list[str] = []
    homes: dict[int, str] = {}
    for module in modules:
        for name in sorted(module.__all__):
            value, full = getattr(module, name), f"{module.__name__}.{name}"
            if id(value) in homes:
                lines.append(f"{full}: is {homes[id(value)]}")
                continue
            homes[id(value)] = full
            lines += _described(value, full, public)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if "--write" in sys.argv:
        STORED.write_text(interface(), "utf-8")
    else:
        print(interface(), end="")
