"""Reads a recipe: a TOML file in which every key must be known."""

from __future__ import annotations

import dataclasses
import difflib
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_origin, get_type_hints

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]

T = TypeVar("T")


@dataclass(frozen=True)
class Data:
    """What to train on."""

    manifest: str  # TSV with a `path` column; columns `split` and `text` are understood
    train: str = "train"  # value of `split` to train on
    validate: str = "dev"  # value of `split` to watch
    cache: str = "runs/cache"  # where decoded audio is kept
    seconds: float = 1.0  # length of a crop
    batch: int = 24  # crops a step


@dataclass(frozen=True)
class Train:
    """How to train."""

    steps: int = 20000  # in all
    rate: float = 1e-3  # highest learning rate
    warmup: int = 500  # steps to reach it
    cooldown: int = 4000  # last steps, in which it falls to zero
    weight_decay: float = 0.01
    clip: float = 1.0  # gradient norm
    ema: float = 0.999  # decay of the averaged weights, which are what is saved
    whole: float = 0.5  # share of crops that use all codebooks; the rest a random number
    seed: int = 0
    every: int = 500  # steps between validations and checkpoints


@dataclass(frozen=True)
class Recipe:
    """A training recipe."""

    codec: str  # name of the codec
    data: Data
    config: dict[str, Any] = field(default_factory=dict)  # sizes of the codec, where not its own
    loss: dict[str, float] = field(default_factory=dict)  # name of a loss -> weight
    train: Train = field(default_factory=Train)


def read_recipe(path: str | Path, settings: list[str] | None = None) -> Recipe:
    """Read a recipe, with `section.key=value` settings put over it (values in TOML).

    Raises:
        ValueError: no such file, not TOML, or an unknown, missing or wrong key; the message names
            the file, the key and the nearest known one.
    """
    path = Path(path)
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such recipe") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not TOML: {error}") from None
    for setting in settings or []:
        key, eq, value = setting.partition("=")
        if not eq:
            raise ValueError(f"--set {setting}: write it as section.key=value")
        *sections, last = key.strip().split(".")
        inner = table
        for section in sections:
            inner = inner.setdefault(section, {})
            if not isinstance(inner, dict):
                raise ValueError(f"--set {setting}: {section!r} is a value, not a table")
        inner[last] = _value(value)
    return _fill(Recipe, table, str(path))


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()


def _fill(kind: type[T], table: dict[str, Any], where: str) -> T:
    """A dataclass from a table; nested dataclasses from nested tables."""
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    hints = get_type_hints(kind)
    for key in table:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(fields)}"
            raise ValueError(f"{where}: unknown key {key!r}{hint}")
    made: dict[str, Any] = {}
    for name, f in fields.items():
        if name not in table:
            required = f.default is f.default_factory is dataclasses.MISSING
            if required:
                raise ValueError(f"{where}: key {name!r} is missing")
            continue
        value, hint = table[name], hints[name]
        if (dataclasses.is_dataclass(hint) or get_origin(hint) is dict) and type(value) is not dict:
            raise ValueError(f"{where}: {name!r} must be a table, not {value!r}")
        if dataclasses.is_dataclass(hint):
            value = _fill(hint, value, f"{where} [{name}]")  # type: ignore[arg-type]
        elif hint == dict[str, float]:
            for key, number in value.items():
                if type(number) not in (int, float):
                    raise ValueError(f"{where} [{name}]: {key!r} must be float, not {number!r}")
            value = {key: float(number) for key, number in value.items()}
        elif hint is float and type(value) is int:
            value = float(value)
        elif hint in (int, float, str) and type(value) is not hint:
            raise ValueError(f"{where}: {name!r} must be {hint.__name__}, not {value!r}")
        made[name] = value
    return kind(**made)
