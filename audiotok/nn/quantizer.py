"""Quantizer of a codec by its name and options, whatever the network around it."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from itertools import repeat
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from audiotok._platform.config import range_of
from audiotok._platform.errors import Error, InputError, in_one_line
from audiotok._platform.registry import find
from audiotok.nn.continuous import Continuous
from audiotok.nn.quantizers.base import Quantizer

USUAL = "rvq"  # the quantizer of codecs that do not choose another
NONE = "none"  # name by which a codec has no quantizer, and keeps its latents


def build_quantizer(
    name: str, features: int, options: Mapping[str, Any], *, usual: Mapping[str, Any]
) -> Quantizer:
    """Build a quantizer of latents.

    Args:
        name: name of the quantizer, as "fsq"; "none" for latents that are kept as they are.
        features: width of the latents.
        options: its options by name.
        usual: further options if it is an `rvq`, which `options` may replace.

    Raises:
        InputError: it has no such options, or none of this value; or it is not for latents.
        UnknownPartError: there is no such quantizer.
    """
    if not isinstance(options, Mapping):
        raise InputError(f"quantizer_options must be a table of options, not {options!r}")
    if name == NONE:
        if options:
            raise InputError(
                f"quantizer {NONE!r} keeps latents and has no options: leave out "
                f"{', '.join(options)}"
            )
        return Continuous(features)
    kind = find("quantizers", name)
    if not kind.of_latents:
        raise InputError(f"quantizer {name!r} codes segments, and this network has latents")
    parameters = inspect.signature(kind).parameters.values()
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    known = {p.name: p.default for p in named if p.name != "features"}
    hints = types_of(kind.__init__)
    chosen = {**(usual if name == USUAL else {}), **options}
    for key, value in chosen.items():
        if key not in known:
            raise InputError(f"quantizer {name!r} has no option {key!r}; it has {', '.join(known)}")
        hint = hints.get(key, Any if known[key] is None else type(known[key]))
        check_type(f"quantizer {name!r}: {key!r}", value, hint)
    try:
        return kind(features, **chosen)
    except Error:
        raise
    except (ArithmeticError, IndexError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"quantizer {name!r}: {in_one_line(error)}") from None


def types_of(of: Any) -> dict[str, Any]:
    """Return the types of a class's fields or of a function's parameters, with their ranges.

    Args:
        of: the class or function; of one whose annotations cannot be read no type is known.
    """
    try:
        return get_type_hints(of, include_extras=True)
    except (NameError, TypeError, AttributeError):  # names that only type checkers import
        return {}


_KINDS: Mapping[Any, tuple[Any, str]] = {
    bool: (bool, "true or false"),
    int: (int, "an integer"),
    float: ((int, float), "a number"),
    str: (str, "text"),
    dict: (Mapping, "a table"),
    Mapping: (Mapping, "a table"),
    list: ((list, tuple), "a list"),
    tuple: ((list, tuple), "a list"),
    Sequence: ((list, tuple), "a list"),
    type(None): (type(None), "nothing"),
}


def check_type(what: str, value: Any, hint: Any) -> None:
    """Raise unless a value is of the type of an option, and in its range.

    Args:
        what: the option, with which the message begins.
        value: the value, from TOML or JSON.
        hint: the type: of numbers, text, lists and tables, a `Literal` or a union of such; with a
            `Range` in `Annotated`. `Any` fits every value.

    Raises:
        InputError: it is not.
    """
    kind, inside = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, UnionType):
        if not any(_fits(value, each) for each in inside):
            raise InputError(f"{what} must be {_called(hint)}, not {value!r}")
    elif kind is Annotated:
        check_type(what, value, inside[0])
        span = range_of(hint)
        if span and value not in span:
            raise InputError(f"{what} must be {span}, not {value!r}")
    elif kind is Literal:
        if not any(value == each and type(value) is type(each) for each in inside):
            raise InputError(f"{what} must be {_called(hint)}, not {value!r}")
    elif kind in _KINDS:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        fits = isinstance(value, _KINDS[kind][0]) and isinstance(value, bool) == (kind is bool)
        if not fits or (number and not -math.inf < value < math.inf):
            raise InputError(f"{what} must be {_called(hint)}, not {value!r}")
        if isinstance(value, list | tuple) and inside:
            fixed = kind is tuple and inside[-1] is not ...
            if fixed and len(value) != len(inside):
                raise InputError(f"{what} must be a list of {len(inside)}, not {value!r}")
            for each, part in zip(value, inside if fixed else repeat(inside[0]), strict=False):
                check_type(f"{what}: each part", each, part)
    elif hint is not Any:
        raise InputError(f"{what} cannot be chosen")


def _fits(value: Any, hint: Any) -> bool:
    """Return whether a value is of a type."""
    try:
        check_type("", value, hint)
    except InputError:
        return False
    return True


def _called(hint: Any) -> str:
    """Return the name of a type, for messages."""
    kind, inside = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, UnionType):
        return " or ".join(_called(each) for each in inside if each is not type(None))
    if kind is Literal:
        return " or ".join(map(repr, inside))
    if kind is Annotated:
        return f"{_called(inside[0])} of {range_of(hint)}"
    return _KINDS[kind][1] if kind in _KINDS else str(kind)
