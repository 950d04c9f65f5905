"""Lookup of a part by its file name: `find("codecs", "speech")` is `Speech` of codecs/speech.py.

A part may define presets, which have names of their own: `find_preset("codecs", "dac_16khz")`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from audiotok._platform.errors import Error

FAMILIES = {
    "anchors": "evaluation.baselines",
    "backends": "runtime.backends",
    "codecs": "codecs.models",
    "commands": "cli.commands",
    "discriminators": "training.discriminators",
    "embedders": "evaluation.speaker",
    "engines": "corpus.build.executors",
    "exporters": "lm.exporters",
    "layers": "nn.layers",
    "listings": "data.sources",
    "metrics": "evaluation.metrics",
    "patterns": "lm.patterns",
    "quantizers": "nn.quantizers",
    "recognizers": "evaluation.asr",
    "tasks": "evaluation.tasks",
    "teachers": "data.features",
}
"""Family of interchangeable parts -> its package within audiotok."""


class UnknownPartError(Error, ValueError):
    """Error of a name for which the family has no part."""


def names(family: str = "codecs") -> list[str]:
    """Return the names of all parts of a family (a key of `FAMILIES`), sorted.

    Raises:
        UnknownPartError: there is no such family.
    """
    if family not in FAMILIES:
        raise UnknownPartError(f"no family {family!r}; there are {', '.join(FAMILIES)}")
    folder = Path(__file__).parents[1].joinpath(*FAMILIES[family].split("."))
    return sorted(p.stem for p in folder.glob("*.py") if p.stem not in ("__init__", "base"))


def find(family: str, name: str) -> type[Any]:
    """Return the class of the part `name` of `family`: `split_rvq` gives `SplitRvq`.

    Only the file asked for is imported.

    Raises:
        UnknownPartError: no such part; the message lists the known ones and the nearest.
    """
    known = names(family)
    if name not in known:
        raise UnknownPartError(_unknown(family, name, known))
    module = import_module(f"audiotok.{FAMILIES[family]}.{name}")
    return getattr(module, "".join(word.capitalize() for word in name.split("_")))


def presets(family: str = "codecs") -> dict[str, str]:
    """Return the names that can be asked for, each with the part that provides it.

    A part that lists `presets` is known by their names, any other by its own. Every part of the
    family is imported.
    """
    parts = {part: getattr(find(family, part), "presets", None) for part in names(family)}
    return {preset: part for part, listed in parts.items() for preset in listed or (part,)}


def find_preset(family: str, name: str) -> tuple[type[Any], Any]:
    """Return the class of a preset and its Config; of a part without presets, its class and None.

    Raises:
        UnknownPartError: no such name; the message lists the known ones and the nearest.
    """
    known = presets(family)
    if name not in known:
        raise UnknownPartError(_unknown(family, name, known))
    part = find(family, known[name])
    return part, getattr(part, "presets", {}).get(name)


def _unknown(family: str, name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"unknown {family} part {name!r}.{hint} Known: {', '.join(known)}"
