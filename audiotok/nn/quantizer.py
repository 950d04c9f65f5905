"""Quantizer of a codec by its name and options, whatever the network around it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from audiotok._platform.errors import Error, InputError, in_one_line
from audiotok._platform.registry import find
from audiotok.nn.quantizers.base import Quantizer

USUAL = "rvq"  # the quantizer of codecs that do not choose another


def build_quantizer(
    name: str, features: int, options: Mapping[str, Any], *, usual: Mapping[str, Any]
) -> Quantizer:
    """Build a quantizer of latents.

    Args:
        name: name of the quantizer, as "fsq".
        features: width of the latents.
        options: its options by name.
        usual: further options if it is an `rvq`, which `options` may replace.

    Raises:
        InputError: it has no such options, or none of this value; or it is not for latents.
        UnknownPartError: there is no such quantizer.
    """
    if not isinstance(options, Mapping):
        raise InputError(f"quantizer_options must be a table of options, not {options!r}")
    kind = find("quantizers", name)
    if not kind.of_latents:
        raise InputError(f"quantizer {name!r} codes segments, and this network has latents")
    known = inspect.signature(kind).parameters
    for key, value in options.items():
        if key not in known or key == "features":
            names = ", ".join(name for name in known if name != "features")
            raise InputError(f"quantizer {name!r} has no option {key!r}; it has {names}")
        check_type(f"quantizer {name!r}: {key!r}", value, known[key].default)
    try:
        return kind(features, **{**(usual if name == USUAL else {}), **options})
    except Error:
        raise
    except (ArithmeticError, IndexError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"quantizer {name!r}: {in_one_line(error)}") from None


def check_type(what: str, value: Any, default: Any) -> None:
    """Raise unless a value is of the type of an option, as its default value shows it.

    Args:
        what: the option, with which the message begins.
        value: the value, from TOML or JSON.
        default: the default value; None, of which nothing is known, fits every value.

    Raises:
        InputError: it is not.
    """
    kinds: list[tuple[type, type | tuple[type, ...], str]] = [
        (bool, bool, "true or false"),
        (int, int, "an integer"),
        (float, (int, float), "a number"),
        (str, str, "text"),
        (Mapping, Mapping, "a table"),
        (Sequence, (list, tuple), "a list"),
    ]
    for kind, allowed, name in kinds:
        if isinstance(default, kind):
            if isinstance(value, allowed) and isinstance(value, bool) == (kind is bool):
                for each in value if kind is Sequence and default else ():
                    check_type(f"{what}: each part", each, default[0])
                return
            raise InputError(f"{what} must be {name}, not {value!r}")
    if default is not None:
        raise InputError(f"{what} cannot be chosen")
