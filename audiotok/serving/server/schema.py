"""Schema of the fields of messages, and its check."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from audiotok._platform.errors import Error

KINDS: dict[str, tuple[type, ...]] = {
    "a whole number": (int,),
    "a number": (int, float),
    "a string": (str,),
    "true or false": (bool,),
    "a list": (list,),
    "an object": (dict,),
}


class ProtocolError(Error, ValueError):
    """Error of a message that breaks the protocol; one line.

    Attributes:
        code: code of the error, for programs.
        close: WebSocket close code.
    """

    def __init__(self, message: str, *, code: str = "malformed", close: int = 1007) -> None:
        super().__init__(message)
        self.code = code
        self.close = close


@dataclass(frozen=True, kw_only=True)
class Field:
    """Declaration of the values that a field may have.

    Attributes:
        kind: one of `KINDS`.
        noun: unit of a number, for error messages.
        required: whether the field must be present.
        low: least value, if any.
        high: greatest value, if any, or the name of a bound that is known when it is checked.
        values: allowed values, if not all.
        items: declaration of each item of a list.
        fields: declarations of the fields of an object, which may have others.
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
    """Return the fault of a message, in one line of ASCII, or None.

    Args:
        name: name of the message.
        message: its fields.
        schema: declarations of the fields.
        bounds: values of the bounds that `Field.high` names.
        others: whether fields outside the schema are allowed.
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
    """Return a value for an error message: short, in ASCII, without control characters."""
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
