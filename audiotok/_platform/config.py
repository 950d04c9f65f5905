"""Strict reading of TOML into dataclasses: every key must be known, every number in its range.

A number's range is part of its type, `seconds: Annotated[float, ABOVE_ZERO]`. Without the check a
number outside it would raise an unrelated error in another library hours later, or pass unnoticed:
a `train.steps` of -1 trains nothing and reports success.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import (
    Any,
    Literal,
    NamedTuple,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from audiotok._platform.errors import InputError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]

T = TypeVar("T")


class Range(NamedTuple):
    """The range of values that an option may take, ends included unless `above`.

    Attributes:
        least: the smallest value.
        most: the greatest value.
        above: whether `least` itself is not allowed.
    """

    least: float
    most: float = math.inf
    above: bool = False

    def __contains__(self, value: object) -> bool:
        low = isinstance(value, int | float) and self.least <= value <= self.most
        return low and not (self.above and value == self.least)

    def __str__(self) -> str:
        if self.above:
            low = f"above {self.least:g}"
        else:
            low = f"at least {self.least:g}" if self.least > -math.inf else ""
        high = f"at most {self.most:g}" if self.most < math.inf else ""
        return " and ".join(filter(None, (low, high))) or "a finite number"


ANY = Range(-math.inf)
SHARE = Range(0, 1)
BELOW_ONE = Range(0, 1 - 2**-53)
NONE_OR_MORE = Range(0)
ONE_OR_MORE = Range(1)
ABOVE_ZERO = Range(0, above=True)
SEED = Range(0, 2**63 - 1)  # the seeds that both torch and numpy take

DEEPEST = 20  # levels of nested tables and lists; the recipes in this repository have three


def _deep(table: dict[str, Any]) -> bool:
    """Return whether tables and lists are nested more than `DEEPEST` levels deep."""
    level: list[Any] = [table]
    for _ in range(DEEPEST):
        inner = (
            child for one in level for child in (one.values() if isinstance(one, dict) else one)
        )
        level = [child for child in inner if isinstance(child, dict | list)]
        if not level:
            return False
    return True


def read_toml(kind: type[T], path: str | Path | None, settings: Sequence[str] | None = None) -> T:
    """Read a TOML recipe as a dataclass, with `section.key=value` settings applied over it.

    A recipe that begins with `extends = "other.toml"` (a path relative to its folder) holds only
    what differs from that one: tables are merged, other values replaced.

    Args:
        kind: the dataclass to fill in.
        path: the recipe; None for an empty one.
        settings: `section.key=value` each, with the value in TOML; a value that is not TOML is
            taken as text.

    Raises:
        ValueError: no such file, not TOML, an unknown or mistyped key, a number out of its range
            (`Range`); the message names the file, the key and the nearest known one.
    """
    table = {} if path is None else _read(Path(path), ())
    for setting in settings or []:
        key, eq, value = setting.partition("=")
        if not eq:
            raise InputError(f"{setting}: write it as section.key=value")
        *sections, last = key.strip().split(".")
        inner = table
        for section in sections:
            inner = inner.setdefault(section, {})
            if not isinstance(inner, dict):
                raise InputError(f"{setting}: {section!r} is a value, not a table")
        inner[last] = _value(value)
    if _deep(table):
        raise InputError(f"{path or 'settings'}: tables nested more than {DEEPEST} levels deep")
    return _fill(kind, table, str(path or "settings"))


def _read(path: Path, below: tuple[Path, ...]) -> dict[str, Any]:
    """Return a recipe's table, merged over those of the recipes it extends (`below`: so far)."""
    if path in below:
        raise InputError(f"{path}: extends itself")
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such recipe") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except RecursionError:
        raise InputError(f"{path}: not a recipe: nested too deeply") from None
    except ValueError as error:  # from TOML, from UTF-8, or from an integer of thousands of digits
        raise InputError(f"{path}: not TOML: {error}") from None
    if _deep(table):
        raise InputError(f"{path}: tables nested more than {DEEPEST} levels deep")
    base = table.pop("extends", None)
    if base is None:
        return table
    if not isinstance(base, str):
        raise InputError(f"{path}: 'extends' must be str, not {base!r}")
    return _merged(_read(path.parent / base, (*below, path)), table)


def _merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Merge tables recursively; `key = false` in `over` removes a key that is no boolean."""
    both = under | over
    for key in under.keys() & over.keys():
        if isinstance(under[key], dict) and isinstance(over[key], dict):
            both[key] = _merged(under[key], over[key])
        elif over[key] is False and not isinstance(under[key], bool):
            del both[key]
    return both


def _value(text: str) -> Any:
    """Return the value of a setting: TOML where it parses, else the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except RecursionError:
        raise InputError("settings: a value nested too deeply") from None
    except ValueError:
        return text.strip()


def _fill(kind: type[T], table: dict[str, Any], where: str) -> T:
    """Return a dataclass filled in from a table; `where` begins the messages of errors."""
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    hints = get_type_hints(kind)
    for key in table:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(fields)}"
            raise InputError(f"{where}: unknown key {key!r}{hint}")
    values: dict[str, Any] = {}
    for name, f in fields.items():
        if name in table:
            values[name] = _fit(hints[name], table[name], where, name)
        elif f.default is f.default_factory is dataclasses.MISSING:
            raise InputError(f"{where}: key {name!r} is missing")
    options = kind(**values)
    _check_ranges(options, where)
    return options


def range_of(hint: Any) -> Range | None:
    """Return the range in a number's type `Annotated[float, Range]`, or None if it has none."""
    return next((part for part in get_args(hint)[1:] if isinstance(part, Range)), None)


def _check_ranges(options: Any, where: str) -> None:
    """Raise unless every number of a recipe's table is finite and in its range.

    Args:
        options: a dataclass, filled in.
        where: the file and the table, with which the message begins.

    Raises:
        ValueError: a number is outside its range; names the option, its range and the number.
    """
    hints = get_type_hints(type(options), include_extras=True)
    for field in dataclasses.fields(options):
        span = range_of(hints[field.name]) or ANY
        value = getattr(options, field.name)
        parts = value.items() if isinstance(value, Mapping) else [("", value)]
        if isinstance(value, tuple):
            parts = [("", one) for one in value]
        for key, part in parts:
            if not isinstance(part, int | float) or isinstance(part, bool):
                continue
            if not math.isfinite(part) or part not in span:
                name = f"{field.name}.{key}" if key else field.name
                raise InputError(f"{where}: {name!r} must be {span}, not {part}")


def _fit(hint: Any, value: Any, where: str, name: str) -> Any:
    """Return `value` converted to the type `hint` of the field `name`; raise if it does not fit."""
    origin, inside = get_origin(hint), get_args(hint)

    def refuse(wanted: str) -> ValueError:
        return InputError(f"{where}: {name!r} must be {wanted}, not {value!r}")

    if dataclasses.is_dataclass(hint) or origin is dict:
        if type(value) is not dict:
            raise refuse("a table")
        if origin is not dict:
            return _fill(hint, value, f"{where} [{name}]")  # type: ignore[arg-type]
        return {key: _fit(inside[1], v, f"{where} [{name}]", key) for key, v in value.items()}
    if origin is tuple:
        if type(value) is not list or (inside[-1] is not ... and len(value) != len(inside)):
            raise refuse("a list" + (f" of {len(inside)}" if inside[-1] is not ... else ""))
        each = [inside[0]] * len(value) if inside[-1] is ... else inside
        return tuple(_fit(h, v, where, name) for h, v in zip(each, value, strict=True))
    if origin in (Union, UnionType):
        for choice in inside:
            try:
                return _fit(choice, value, where, name)
            except ValueError:
                continue
        raise refuse(" or ".join(_called(choice) for choice in inside))
    if origin is Literal:
        if value not in inside:
            raise refuse(_called(hint))
        return value
    if hint is float and type(value) is int:
        try:
            return float(value)
        except OverflowError:
            raise InputError(f"{where}: {name!r} is a number of {len(str(value))} digits") from None
    if hint is not Any and type(value) is not hint:
        raise refuse(hint.__name__)
    return value


def _called(hint: Any) -> str:
    """Return the name of a type, for messages."""
    if get_origin(hint) is Literal:
        return " or ".join(repr(choice) for choice in get_args(hint))
    return hint.__name__
