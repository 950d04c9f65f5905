"""Strict reading of JSON from outside: errors are one line with the reason and the position.

Python's own reader accepts NaN and Infinity, turns 1e400 into infinity, keeps the last of two equal
keys, and raises RecursionError on deeply nested text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

from audiotok._platform.errors import InputError

DEEPEST = 100  # levels of nesting; JSON that people read has fewer than ten
DIGITS = 300  # the longest whole number; one of more than 308 digits fits no float


def parse(text: str | bytes, where: str) -> Any:
    """Read one JSON value.

    Args:
        text: the value, as text or as UTF-8.
        where: the file, and the line if it has one value a line; messages begin with it.

    Raises:
        ValueError: it is not UTF-8, not JSON, nested more than 100 levels deep, names a key twice
            or holds a number that is not finite. The message is one line.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        value = _DECODER.decode(text)
    except RecursionError:
        raise InputError(_too_deep(where)) from None
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: not UTF-8 (byte {error.start})") from None
    except ValueError as error:  # from json itself, or from the checks below
        raise InputError(f"{where}: not JSON ({error})") from None
    if text.count("[") + text.count("{") > DEEPEST and _deep(value):
        raise InputError(_too_deep(where))
    return value


def number(value: object, what: str, *, least: float = -math.inf, most: float = math.inf) -> float:
    """Return a JSON value as a float; raise unless it is a finite number from `least` to `most`.

    Args:
        value: the value; booleans and strings are not numbers.
        what: the file and the name of the value; the message begins with it.
        least: the smallest number allowed.
        most: the largest number allowed.

    Raises:
        ValueError: it is not. The message is one line.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            if math.isfinite(value) and least <= value <= most:
                return float(value)
        except OverflowError:  # a whole number beyond the floats
            pass
    raise InputError(f"{what} is {shown(value)}, not a number{_span(least, most)}")


def whole(value: object, what: str, *, least: float = -math.inf, most: float = math.inf) -> int:
    """Return a JSON value; raise unless it is a whole number from `least` to `most`.

    Args:
        value: the value; booleans, strings and 1.0 are not whole numbers.
        what: the file and the name of the value; the message begins with it.
        least: the smallest number allowed.
        most: the largest number allowed.

    Raises:
        ValueError: it is not. The message is one line.
    """
    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
        return value
    raise InputError(f"{what} is {shown(value)}, not a whole number{_span(least, most)}")


def shown(value: object) -> str:
    """Return the first 40 characters of a value as JSON, on one line, for a message."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):  # not JSON, or a number of thousands of digits
        text = f"a value of type {type(value).__name__}"
    return " ".join((text if len(text) <= 40 else f"{text[:37]}...").split())


def _span(least: float, most: float) -> str:
    low, high = least > -math.inf, most < math.inf
    if low and high:
        return f" from {least:g} to {most:g}"
    return f" of at least {least:g}" if low else f" of at most {most:g}" if high else ""


def _too_deep(where: str) -> str:
    return f"{where}: JSON nested more than {DEEPEST} levels deep; nothing here needs that"


def _deep(value: Any) -> bool:
    """Return whether lists and objects are nested more than `DEEPEST` levels deep."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(DEEPEST):
        inner: Iterable[Any] = (
            child for each in level for child in (each.values() if isinstance(each, dict) else each)
        )
        level = [child for child in inner if isinstance(child, dict | list)]
        if not level:
            return False
    return True


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise InputError(f"{text[:20]} is beyond the largest number, 1.8e308")
    return value


def _integer(text: str) -> int:
    if len(text) > DIGITS:
        raise InputError(f"a number of {len(text)} digits")
    return int(text)


def _refused(name: str) -> float:
    raise InputError(f"{name} is not a number; leave it out or write null")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON; raise if it has a key twice."""
    table = dict(pairs)
    if len(table) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise InputError(f"the key {shown(twice)} stands twice in one object")
    return table


_DECODER = json.JSONDecoder(
    parse_float=_finite, parse_int=_integer, parse_constant=_refused, object_pairs_hook=_unique
)
