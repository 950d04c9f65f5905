"""Reference of the public names: `audiotok.__all__` and that of every room, for autodoc."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

from markup import cell, code, table
from module_tree import LINE

MODULES = ("audiotok", *(f"audiotok.{room}" for room in LINE))


def api(module: str) -> str:
    """Return the names of a module: those that it owns described, those that others own linked.

    Args:
        module: `audiotok`, or a room of it.
    """
    names = public(module)
    if not names:
        return f"`{module}` declares no public names."
    owned = owners()
    own = [name for name in names if owned[_key(module, name)] == (module, name)]
    lines = []
    others = [name for name in names if name not in own]
    if others:
        links = [[code(name), _link(owned[_key(module, name)])] for name in others]
        lines += [table(["name", "is described as"], links), ""]
    lines += ["```{eval-rst}", f".. py:currentmodule:: {module}", ""]
    for name in own:
        lines += _directive(module, name)
    return "\n".join([*lines, "```"])


def public(module: str) -> list[str]:
    """Return the public names of a module, none if it declares none."""
    return list(getattr(import_module(module), "__all__", ()))


def _key(module: str, name: str) -> Any:
    """Return what is the same for the same object under two names."""
    value = getattr(import_module(module), name)
    if inspect.isclass(value) or inspect.isroutine(value):
        return value
    return module, name


def owners() -> dict[Any, tuple[str, str]]:
    """Return for each public object the first module and name that it has."""
    first: dict[Any, tuple[str, str]] = {}
    for module in MODULES:
        for name in public(module):
            first.setdefault(_key(module, name), (module, name))
    return first


def _link(owner: tuple[str, str]) -> str:
    return cell(f"{{py:obj}}`{'.'.join(owner)}`")


def _directive(module: str, name: str) -> list[str]:
    """Return the lines that describe a name by autodoc."""
    value = getattr(import_module(module), name)
    full = f"{module}.{name}"
    if inspect.isclass(value):
        bases = ["   :show-inheritance:"] if value.__bases__ != (object,) else []
        kind = "autoexception" if issubclass(value, BaseException) else "autoclass"
        return [f".. {kind}:: {full}", "   :members:", *bases, ""]
    if inspect.isroutine(value):
        return [f".. autofunction:: {full}", ""]
    if inspect.ismodule(value):
        return [
            f".. py:module:: {full}",
            "",
            f"   {(value.__doc__ or '').partition(chr(10))[0]}",
            "",
        ]
    return [f".. autodata:: {full}", "   :no-value:", ""]
