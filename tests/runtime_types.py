"""Annotations that are checked at run time: types by beartype, shapes by jaxtyping.

jaxtyping's import hook alone makes two checked functions of each function and checks arguments
twice in every call, which took from a quarter to two thirds of what tests take. Here a function is
made a checked one when it is first called, and what it is called with is checked once.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import is_dataclass
from types import FunctionType
from typing import Any, get_type_hints

import jaxtyping
from beartype import BeartypeConf, beartype

_jaxtyped = jaxtyping.jaxtyped
_letters: Any = _jaxtyped("context")  # in which a letter stands for one size
# Accept an int where a float is expected, as type checkers do (PEP 484).
_typed = beartype(conf=BeartypeConf(is_pep484_tower=True))


def install(package: str) -> None:
    """Check all functions and dataclasses of a package, which must not have been imported."""
    # The hook writes `@jaxtyping.jaxtyped(typechecker=...)` above each of them.
    jaxtyping.jaxtyped = lambda *, typechecker: checked  # pyright: ignore
    jaxtyping.install_import_hook(package, "beartype.beartype")


def checked(part: Any) -> Any:
    """Return a function that checks its arguments and result, or a class that checks its fields.

    Of classes only dataclasses have fields; methods are functions of their own.
    """
    if isinstance(part, type):
        if is_dataclass(part) and not hasattr(part.__init__, "__wrapped__"):
            part.__init__ = checked(part.__init__)
        return part
    # Shapes that depend on an argument; and beartype checks a generator's arguments late.
    if inspect.isgeneratorfunction(part) or any(
        "{" in str(hint) for hint in part.__annotations__.values()
    ):
        return _jaxtyped(part, typechecker=_typed)
    config = jaxtyping.config  # kept: audit hooks run until the very end
    typed: Callable[..., Any] | None = None
    shaped = False

    @functools.wraps(part)
    def call(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        nonlocal typed, shaped
        if config.jaxtyping_disable:
            return part(*args, **kwargs)
        if typed is None:
            typed = part  # while it is made: if it is an audit hook, it is called as it is copied
            resolved = _resolved(part)
            shaped = any("jaxtyping." in str(hint) for hint in resolved.__annotations__.values())
            typed = _typed(resolved)
        if not shaped:
            return typed(*args, **kwargs)
        with _letters:
            return typed(*args, **kwargs)

    return call


def _resolved(function: FunctionType) -> FunctionType:
    """Return a copy of a function with types as annotations; the function itself is documented."""
    copy = FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    functools.update_wrapper(copy, function)
    del copy.__wrapped__  # pyright: ignore
    copy.__kwdefaults__ = function.__kwdefaults__
    copy.__annotations__ = {
        name: _resolved_hint(hint, function.__globals__)
        for name, hint in function.__annotations__.items()
    }
    return copy


def _resolved_hint(hint: Any, names: dict[str, Any]) -> Any:
    """Return what an annotation stands for; Any where it names what only type checkers import."""
    holder = type("Holder", (), {"__annotations__": {"value": hint}})
    try:
        return get_type_hints(holder, names, include_extras=True)["value"]
    except Exception:
        return Any
