"""A schema of the fields of messages, declared once and checked the same way for all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KINDS: dict[str, tuple[type, ...]] = {
    "a whole number": (int,),
    "a number": (int, float),
    "a string": (str,),
    "true or false": (bool,),
    "a list": (list,),
    "an object": (dict,),
}


class ProtocolError(ValueError):
    """A message that is not of this protocol; one line.

    Attributes:
        code: a word for programs.
        close: what the socket is closed with.
    """

    def __init__(self, message: str, *, code: str = "malformed", close: int = 1007) -> None:
        super().__init__(message)
        self.code, self.close = code, close


@dataclass(frozen=True, kw_only=True)
class Field:
    """The values that a field may have.

    Attributes:
        kind: one of `KINDS`.
        noun: what the number counts, for messages.
        required: whether a message lacks something without it.
        low: the least number that it may be, if any.
        high: the greatest, if any, or the name of one that is known only when it is checked.
        values: that it may have, if not any.
        items: what each item of a list is, if it is a list.
        fields: what the fields of an object are, if it is one; it may have others.
    """

    kind: str
    noun: str = ""
    required: bool = False
    low: float | None = None
    high: float | str | None = None
    values: tuple[str, ...] = ()
    items: Field | None = None
    fields: Mapping[str, Field] | None = None


def fault(
    name: str,
    message: Mapping[str, Any],
    schema: Mapping[str, Field],
    bounds: Mapping[str, float],
    *,
    others: bool,
) -> str | None:
    """Return what is wrong with a message, in one line of ASCII, or None.

    Args:
        name: of the message.
        message: its fields.
        schema: what they may be.
        bounds: the numbers that `Field.high` names.
        others: whether it may have fields that are not in the schema.
    """
    for key in message:
        if key not in schema and not others:
            known = f"; there are {', '.join(schema)}" if schema else ""
            return f"{name} has no field {brief(key)}{known}"
    for key, field in schema.items():
        if key not in message:
            if field.required:
                return f"{name} lacks {key}"
        elif wrong := _wrong(key, message[key], field, bounds):
            return wrong
    return None


def brief(value: Any) -> str:
    """Return a value as it is shown in a message: short, in ASCII, without control characters."""
    shown = ascii(value[:40] if isinstance(value, (str, list)) else value)
    return shown if len(shown) <= 60 else f"{shown[:60]}..."


def _wrong(name: str, value: Any, field: Field, bounds: Mapping[str, float]) -> str | None:
    kinds, what = KINDS[field.kind], field.kind + (f" of {field.noun}" if field.noun else "")
    if type(value) not in kinds or (isinstance(value, float) and not math.isfinite(value)):
        expected = f"there are {', '.join(field.values)}" if field.values else f"it is {what}"
        return f"{name} is {brief(value)}; {expected}"
    if field.values and value not in field.values:
        return f"{name} is {brief(value)}; there are {', '.join(field.values)}"
    high = bounds[field.high] if isinstance(field.high, str) else field.high
    if (field.low is not None and value < field.low) or (high is not None and value > high):
        if high is None:
            return f"{name} is {brief(value)}; it is {what}, at least {field.low:g}"
        return f"{name} is {brief(value)}; there are {field.low:g} to {high:g}"
    if field.items is not None and isinstance(value, list):
        for item in value:
            if wrong := _wrong(f"an item of {name}", item, field.items, bounds):
                return wrong
    if field.fields is not None and isinstance(value, dict):
        return fault(name, value, field.fields, bounds, others=True)
    return None
