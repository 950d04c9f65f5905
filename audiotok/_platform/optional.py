"""Imports that wait until a name is used, and imports of what may not be installed."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from audiotok._platform.errors import Error, MissingLibraryError, warn_deprecated

_EXPORT = re.compile(r"^from (\S+) import (\w+) as \2$", re.MULTILINE)


class MissingModelError(Error, ValueError):
    """Error of weights that are not on this machine; what needs them is not run, but not failed."""


def lazy_names(
    package: str, file: str, renamed: dict[str, tuple[str, str]] | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return `__getattr__`, `__dir__` and `__all__` of a package that loads its names when used.

    Its public names are what the stub beside it (`__init__.pyi`, which type checkers read) imports:
    `from audiotok.lm.bpe import learn_pieces as learn_pieces`, a line each.

    Args:
        package: `__name__` of the package.
        file: `__file__` of the package.
        renamed: deprecated name -> the public name that it has now, and the release since when.
    """
    stub = Path(file).with_suffix(".pyi").read_text("utf-8")
    homes = {name: module for module, name in _EXPORT.findall(stub)}

    def load(name: str) -> Any:
        if name in (renamed or {}):
            instead, since = (renamed or {})[name]
            text = f"{package}.{name}"
            warn_deprecated(text, since=since, instead=f"{package}.{instead}", stacklevel=2)
            name = instead
        if name in homes:
            return getattr(import_module(homes[name]), name)
        has = ", ".join(sorted(homes))
        raise AttributeError(f"module {package!r} has no attribute {name!r}; it has {has}")

    return load, lambda: sorted([*vars(import_module(package)), *homes]), sorted(homes)


def optional_import(library: str, package: str = "", *, extra: str = "metrics") -> ModuleType:
    """Return a library of an optional extra, imported.

    Args:
        library: the name that it is imported by.
        package: the name that pip installs it by; the same if empty.
        extra: the extra of audiotok that it belongs to.

    Raises:
        MissingLibraryError: it cannot be imported; the message says how to install it.
    """
    try:
        return import_module(library)
    except ImportError as error:
        way = f"pip install {package or library}, or 'audiotok[{extra}]'"
        raise MissingLibraryError(
            f"the {library} package cannot be imported ({error}): {way}"
        ) from None


def version(package: str) -> str:
    """Return name and version of a package, as the protocols of metrics print them."""
    from importlib import metadata  # takes 20 ms, which `--help` need not wait for

    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return f"{package} (not installed)"


def commit() -> str:
    """Return the commit of the checkout that this runs from; "" where the package is installed."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():  # an installed package may lie inside another repository
        return ""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=7"]
    try:
        process = subprocess.run(command, cwd=root, capture_output=True, text=True)
    except OSError:
        return ""
    return process.stdout.strip()
