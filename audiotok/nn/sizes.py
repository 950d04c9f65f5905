"""Sizes of a network: whole numbers where they are counts, whoever gives them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_type_hints

from audiotok._platform.errors import InputError


class Sizes:
    """Attribute that holds a dataclass of sizes, and takes none with parts of numbers.

    A recipe and a checkpoint are checked where they are read; a dataclass made in Python is not.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        try:
            return vars(instance)[self.name]
        except (KeyError, TypeError):
            raise AttributeError(self.name) from None

    def __set__(self, instance: Any, sizes: Any) -> None:
        check_whole(sizes)
        vars(instance)[self.name] = sizes


def check_whole(sizes: Any) -> None:
    """Raise unless the fields of a dataclass that count something hold whole numbers.

    Args:
        sizes: the dataclass; anything else passes.

    Raises:
        InputError: a float, alone or in a list, where the type of the field has none.
    """
    if not dataclasses.is_dataclass(sizes):
        return
    hints = get_type_hints(type(sizes))
    for field in dataclasses.fields(sizes):
        value = getattr(sizes, field.name)
        check_whole(value)
        if {float, Any}.isdisjoint(_leaves(hints[field.name])) and _has_float(value):
            raise InputError(f"{field.name} {value}: whole numbers are needed")


def _leaves(hint: Any) -> Iterator[Any]:
    """Yield the types that a type is put together of."""
    parts = get_args(hint)
    for part in parts:
        yield from _leaves(part)
    if not parts:
        yield hint


def _has_float(value: Any) -> bool:
    """Return whether a value is a float, or holds one."""
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, tuple | list):
        return any(_has_float(part) for part in value)
    return isinstance(value, float)
