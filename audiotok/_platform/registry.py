"""Lookup of a part by its name: `find("codecs", "speech")` is `Speech` of codecs/models/speech.py.

A part may define presets, which have names of their own: `find_preset("codecs", "dac_16khz")`.
Parts of other packages are entry points of the group `audiotok.FAMILY` (`CONTRACTS` says of which
families), so installing such a package is what allows its code to run:

    [project.entry-points."audiotok.metrics"]
    loudness = "my_package.metrics:Loudness"
"""

from __future__ import annotations

import difflib
import json
import logging
import re
from collections.abc import Iterable
from functools import cache, reduce
from importlib import import_module
from inspect import getattr_static
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

from audiotok._platform.errors import Error, in_one_line

log = logging.getLogger("audiotok")

FAMILIES = {
    "asr": "evaluation.asr",
    "backends": "runtime.backends",
    "baselines": "evaluation.baselines",
    "codecs": "codecs.models",
    "commands": "cli.commands",
    "decoders": "codecs.decoders",
    "dialects": "lm.dialects",
    "discriminators": "training.discriminators",
    "executors": "corpus.build.executors",
    "exporters": "lm.exporters",
    "layers": "nn.layers",
    "metrics": "evaluation.metrics",
    "patterns": "lm.patterns",
    "quantizers": "nn.quantizers",
    "sources": "data.sources",
    "speaker": "evaluation.speaker",
    "tasks": "evaluation.tasks",
    "teachers": "data.features",
}
"""Family of interchangeable parts -> its package within audiotok."""

CONTRACTS = {
    "baselines": ("Baseline", ("process",)),
    "codecs": ("Codec", ()),
    "decoders": ("Decoder", ()),
    "dialects": ("Dialect", ("lm", "codecs", "entries", "facts")),
    "exporters": ("Exporter", ("suffix", "write")),
    "metrics": ("Metric", ("score",)),
    "patterns": ("Pattern", ("cells", "passes")),
    "quantizers": ("Quantizer", ("forward", "encode", "decode")),
    "sources": ("Listing", ("takes", "items")),
    "tasks": ("Task", ("run",)),
    "teachers": ("Teacher", ("load", "features")),
}
"""Family that other packages may add to -> base class of its parts, and what they must define."""


class UnknownPartError(Error, ValueError):
    """Error of a name for which the family has no part."""


class PluginError(Error, ValueError):
    """Error of another package's part: a name that is taken, or a class that cannot be used."""


def names(family: str = "codecs") -> list[str]:
    """Return the names of all parts of a family, ours and those of plug-ins, sorted.

    Nothing is imported, so a plug-in that cannot be used is listed too.

    Raises:
        UnknownPartError: there is no such family.
    """
    return sorted({*shipped(family), *_entry_points(family)})


def shipped(family: str) -> list[str]:
    """Return the names of the parts of a family (a key of `FAMILIES`) that are ours, sorted.

    Raises:
        UnknownPartError: there is no such family.
    """
    if family not in FAMILIES:
        raise UnknownPartError(f"no family {family!r}; there are {', '.join(FAMILIES)}")
    folder = Path(__file__).parents[1].joinpath(*FAMILIES[family].split("."))
    return sorted(p.stem for p in folder.glob("*.py") if p.stem not in ("__init__", "base"))


def find(family: str, name: str) -> type[Any]:
    """Import no part but `name` of `family`, and return its class: `split_rvq` gives `SplitRvq`.

    Raises:
        UnknownPartError: no such part; the message lists the known ones and the nearest.
        PluginError: a plug-in of this name cannot be used; the message names its package.
    """
    if name in _entry_points(family):
        return _plugin(family, name)
    if name not in shipped(family):
        raise UnknownPartError(_unknown(family, name, names(family)))
    return _own(family, name)


def parts(family: str) -> dict[str, type[Any]]:
    """Return all parts of a family by name; a plug-in that cannot be used only gives a warning."""
    usable = {}
    for name in names(family):
        try:
            usable[name] = find(family, name)
        except PluginError as error:
            log.warning("%s", error)
    return usable


def name_of(part: type[Any]) -> str:
    """Return the name by which `find` gives a part."""
    return _plugin_names.get(part) or part.__module__.rpartition(".")[2]


def presets(family: str = "codecs") -> dict[str, str]:
    """Return the names that can be asked for, each with the part that provides it.

    A part that lists `presets` is known by their names, any other by its own, and so is a plug-in
    that cannot be used. Parts are imported but for those that presets.json lists.
    """
    return {name: providers[-1] for name, providers in _providers(family).items()}


def has_preset(family: str, name: str) -> bool:
    """Return whether a name can be asked for; plug-ins are imported if it is none of ours."""
    return any(name in known(family) for known in (_own_presets, _entry_points, _providers))


def find_preset(family: str, name: str) -> tuple[type[Any], Any]:
    """Return the class of a preset and its Config; of a part without presets, its class and None.

    Plug-ins are imported only where the name is none of ours.

    Raises:
        UnknownPartError: no such name; the message lists the known ones and the nearest.
        PluginError: a plug-in of this name cannot be used; the message names its package.
    """
    known = _own_presets(family)
    if name not in known or name in _entry_points(family):
        known = _providers(family)
    if name not in known:
        raise UnknownPartError(_unknown(family, name, known))
    kinds = [find(family, part) for part in known[name]]
    if len(kinds) > 1:
        both = " and ".join(map(repr, known[name]))
        raise PluginError(f"{family} part {name!r}: of the plug-ins {both}; uninstall one of them")
    return kinds[0], getattr(kinds[0], "presets", {}).get(name)


def stored(family: str) -> dict[str, Any]:
    """Return what presets.json says of each of our presets whose name no plug-in takes."""
    taken = _entry_points(family)
    own = [rows for part, rows in _stored(family).items() if part not in taken]
    return {name: row for rows in own for name, row in rows.items() if name not in taken}


def import_named(path: str) -> Any:
    """Return the object that `module:attribute` names.

    Raises:
        PluginError: no such module or attribute, or the module cannot be imported.
    """
    module, _, attribute = path.partition(":")
    if not attribute:
        raise PluginError(f"{path!r} is no name of the form module:attribute")
    try:
        holder = import_module(module)
    except (Exception, SystemExit) as error:  # whatever the code of another package raises
        raise PluginError(f"module {module!r} cannot be imported: {in_one_line(error)}") from error
    try:
        return reduce(getattr, attribute.split("."), holder)
    except AttributeError:
        raise PluginError(f"module {module!r} ({holder.__file__}) has no {attribute!r}") from None


_plugin_names: dict[type[Any], str] = {}  # of the classes that `_plugin` has returned


@cache
def _entry_points(family: str) -> dict[str, list[EntryPoint]]:
    """Return the entry points of a family by name; nothing of them is imported."""
    if family not in CONTRACTS:
        return {}
    from importlib.metadata import entry_points  # 40 ms that `audiotok --help` does not need

    points: dict[str, list[EntryPoint]] = {}
    try:
        for point in entry_points(group=f"audiotok.{family}"):
            points.setdefault(point.name, []).append(point)
    except Exception as error:  # one damaged file of any installed package spoils the whole list
        log.warning("no plug-ins: a package's entry points are damaged: %s", in_one_line(error))
    return points


@cache
def _plugin(family: str, name: str) -> type[Any]:
    """Import a part of another package, and return it if it can be used."""
    points = _entry_points(family)[name]
    packages = " and ".join(sorted(point.dist.name if point.dist else "?" for point in points))
    title = f"{family} plug-in {name!r} of package {packages}"
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise PluginError(f"{title}: a name is of letters, digits and _ . - only")
    if len(points) > 1:
        raise PluginError(f"{title}: two parts of one name; uninstall one of them")
    class_name, members = CONTRACTS[family]
    base = getattr(import_module(f"audiotok.{FAMILIES[family]}.base"), class_name)
    own = {*shipped(family), *(_own_presets(family) if hasattr(base, "presets") else ())}
    if name in own:
        raise PluginError(f"{title}: audiotok has a part of this name; uninstall the package")
    value = points[0].value
    try:
        part = import_named(value)
    except PluginError as error:
        raise PluginError(f"{title}: {error}") from error
    if not (isinstance(part, type) and issubclass(part, base)):
        raise PluginError(f"{title}: {value} is no subclass of {base.__module__}.{class_name}")
    missing = [m for m in members if getattr_static(part, m, None) is getattr_static(base, m, None)]
    if missing:
        raise PluginError(f"{title}: {value} does not define {', '.join(missing)}")
    if taken := sorted(own & {*getattr(part, "presets", ())}):
        raise PluginError(f"{title}: audiotok has a part of the name of its preset {taken[0]!r}")
    _plugin_names[part] = name
    return part


def _own(family: str, name: str) -> type[Any]:
    """Return the class of a part that is ours."""
    module = import_module(f"audiotok.{FAMILIES[family]}.{name}")
    return getattr(module, "".join(word.capitalize() for word in name.split("_")))


@cache
def _stored(family: str) -> dict[str, dict[str, Any]]:
    """Return the presets.json of a family: presets by part, for which no part is imported."""
    file = Path(__file__).parents[1].joinpath(*FAMILIES[family].split("."), "presets.json")
    return json.loads(file.read_text("utf-8")) if file.is_file() else {}


def _own_presets(family: str) -> dict[str, list[str]]:
    own = {p: _stored(family).get(p) or _presets(_own(family, p), p) for p in shipped(family)}
    return {name: [part] for part, names in own.items() for name in names}


def _providers(family: str) -> dict[str, list[str]]:
    """Return the names that can be asked for, each with the parts that provide it, ours first."""
    providers = _own_presets(family)
    for part in _entry_points(family):
        try:
            provided = _presets(_plugin(family, part), part)
        except PluginError:
            provided = (part,)
        for name in provided:
            providers.setdefault(name, []).append(part)
    return providers


def _presets(kind: type[Any], name: str) -> Iterable[str]:
    return getattr(kind, "presets", None) or (name,)


def _unknown(family: str, name: str, known: Iterable[str]) -> str:
    # The name of a part with presets is near to all of them: the first is the usual one.
    near = [one for one in known if name and one.startswith(f"{name}_")]
    near = near or difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"unknown {family} part {name!r}.{hint} Known: {', '.join(known)}"
