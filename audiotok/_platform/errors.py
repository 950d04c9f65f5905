"""Errors that audiotok raises on purpose, and warnings of names that a later release will drop.

Every error has a second base, the built-in one of its kind, so that `except ValueError` catches
what it would without knowing audiotok.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

MINOR_RELEASES = 2  # in which a deprecated name still works


class Error(Exception):
    """Base of all errors that audiotok raises on purpose: what came, what was expected, what to do.

    >>> import audiotok
    >>> try:
    ...     audiotok.Tokens.load("nowhere.tok")
    ... except audiotok.Error as error:
    ...     print(error)
    nowhere.tok: cannot read: No such file or directory
    """


def in_one_line(error: BaseException) -> str:
    """Return the kind and the message of an error, whoever raised it, in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


class InputError(Error, ValueError):
    """Error of an argument, a setting or a file that cannot be honoured."""


class InputTypeError(Error, TypeError):
    """Error of an argument of a type that is not taken."""


class MissingLibraryError(Error, ImportError):
    """Error of a library or a program that is not installed; the message says how to install it."""


def gone_in(since: str) -> str:
    """Return the release that drops a name which is deprecated since the release `since`."""
    major, minor, *_ = since.split(".")
    return f"{major}.{int(minor) + MINOR_RELEASES}"


def warn_deprecated(name: str, *, since: str, instead: str, stacklevel: int = 1) -> None:
    """Warn of a deprecated name with a FutureWarning, which users see by default.

    Args:
        name: the name, as its users write it.
        since: the first release that warns, as "0.2".
        instead: what to write instead.
        stacklevel: number of calls between this one and the line that uses the name.
    """
    text = f"{name} is deprecated since audiotok {since} and gone in {gone_in(since)}"
    warnings.warn(f"{text}; use {instead}", FutureWarning, stacklevel=stacklevel + 1)


def deprecated(*, since: str, instead: str) -> Callable[[F], F]:
    """Return a decorator of a function or method that is deprecated; arguments as above."""

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def warned(*args: Any, **kwargs: Any) -> Any:
            warn_deprecated(function.__qualname__, since=since, instead=instead, stacklevel=2)
            return function(*args, **kwargs)

        return warned  # pyright: ignore[reportReturnType]

    return decorate


def deprecated_argument(name: str, *, since: str, instead: str) -> Callable[[F], F]:
    """Return a decorator of a function whose keyword `name` is deprecated for `instead`."""

    def decorate(function: F) -> F:
        called = function.__qualname__

        @functools.wraps(function)
        def warned(*args: Any, **kwargs: Any) -> Any:
            if name in kwargs:
                text = f"{called}({name}=...)"
                if instead in kwargs:
                    raise InputError(f"{text}: the same as {instead}=, which is given too")
                warn_deprecated(text, since=since, instead=f"{instead}=", stacklevel=2)
                kwargs[instead] = kwargs.pop(name)
            return function(*args, **kwargs)

        return warned  # pyright: ignore[reportReturnType]

    return decorate
