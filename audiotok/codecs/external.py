"""Codecs that a person names by their code: `my_module:codec` is imported, as `python -m` would.

Importing runs code, so such a name counts only where a person writes it, in Python or on a command
line. A name that a file holds (a recipe, a .tok file, a corpus) never gets here.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from audiotok._platform.errors import Error, in_one_line
from audiotok._platform.registry import PluginError, find_preset, has_preset, import_named, name_of
from audiotok.codecs.models.base import Codec

_IMPORT = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_NAME = re.compile(r"\w[\w.-]*")
_MEMBERS = ("name", "sample_rate", "frame_size", "encoder", "quantizer", "decoder")


class ExternalCodecError(Error, ValueError):
    """Error of code that cannot be imported, or that is no codec."""


def is_import(name: object) -> bool:
    """Return whether a name is `module:attribute`; a file of that name is `./module:attribute`."""
    return isinstance(name, str) and _IMPORT.fullmatch(name) is not None


def imported(path: str) -> Any:
    """Return the object that `module:attribute` names; a class or a function is called first.

    Modules are looked for in the current folder too.

    Args:
        path: the module and the attribute, "package.module:codec".

    Raises:
        ExternalCodecError: it cannot be imported, or calling it fails.
    """
    folder = str(Path.cwd())
    if not {"", folder} & set(sys.path):
        sys.path.insert(0, folder)
    try:
        part = import_named(path)
    except PluginError as error:
        raise ExternalCodecError(f"{path}: {error} (looked for in {folder} too)") from error
    if isinstance(part, type) and issubclass(part, Codec) and not part.own_weights:
        raise ExternalCodecError(
            f"{path}: a new {part.__name__} has random weights: name a function that loads them, "
            "or set own_weights = True if its constructor does"
        )
    if isinstance(part, Codec) or not callable(part):
        return part
    return _called(path, part)


def load_import(path: str) -> Codec:
    """Return the codec that `module:attribute` names: an instance, or what a call of it returns.

    Args:
        path: as for `imported`.

    Raises:
        ExternalCodecError: it cannot be imported, is no codec, or has the name of another codec.
    """
    codec = check_codec(imported(path), path)
    if has_preset("codecs", codec.name) and type(codec) is not find_preset("codecs", codec.name)[0]:
        raise ExternalCodecError(
            f"{path}: calls itself {codec.name!r}, the name of another codec here, whose tokens "
            "would be mistaken for its own: give it a name that is new"
        )
    return codec


def build_plugin(kind: type[Codec], config: Any) -> Codec:
    """Return a new codec of a class of another package, that an entry point names.

    Args:
        kind: the class.
        config: its sizes; its defaults if None.

    Raises:
        ExternalCodecError: it cannot be built, or lacks members that every codec has.
    """
    name = name_of(kind)
    title = f"codecs plug-in {name!r}, {kind.__module__}:{kind.__name__}"
    if getattr(kind, "name", name) != name:
        raise ExternalCodecError(f"{title}: calls itself {kind.name!r}, unlike its entry point")
    return check_codec(_called(title, kind, *(() if config is None else (config,))), title)


def check_codec(codec: Any, title: str) -> Codec:
    """Return a codec that was built by other people's code, if it is one.

    Args:
        codec: what their code gave.
        title: where it came from, for the message.

    Raises:
        ExternalCodecError: it is no `Codec`, or lacks members that every codec has.
    """
    if not isinstance(codec, Codec):
        kind = type(codec).__name__
        raise ExternalCodecError(
            f"{title}: of type {kind}, not a codec (a subclass of audiotok.Codec; of two "
            "functions, audiotok.codecs.functions.FunctionCodec)"
        )
    missing = [member for member in _MEMBERS if not hasattr(codec, member)]
    if missing:
        raise ExternalCodecError(f"{title}: a codec that lacks {', '.join(missing)}")
    if not _NAME.fullmatch(codec.name):
        raise ExternalCodecError(
            f"{title}: a codec's name is of letters, digits and _ . - only, not {codec.name!r}"
        )
    return codec


def _called(title: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what other people's code gives; its error, whatever it is, becomes one line."""
    try:
        return function(*arguments)
    except Exception as error:
        raise ExternalCodecError(f"{title}: calling it fails: {in_one_line(error)}") from error
