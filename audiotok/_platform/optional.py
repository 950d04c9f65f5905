"""Optional imports: libraries and model weights that may not be installed."""

from __future__ import annotations

import subprocess
from importlib import import_module, metadata
from pathlib import Path
from types import ModuleType


class MissingModelError(ValueError):
    """Error of weights that are not on this machine; what needs them is not run, but not failed."""


def optional_import(library: str, package: str = "", *, extra: str = "metrics") -> ModuleType:
    """Return a library of an optional extra, imported.

    Args:
        library: the name that it is imported by.
        package: the name that pip installs it by; the same if empty.
        extra: the extra of audiotok that it belongs to.

    Raises:
        ImportError: it cannot be imported; the message says how to install it.
    """
    try:
        return import_module(library)
    except ImportError as error:
        way = f"pip install {package or library}, or 'audiotok[{extra}]'"
        raise ImportError(f"the {library} package cannot be imported ({error}): {way}") from None


def version(package: str) -> str:
    """Return name and version of a package, as the protocols of metrics print them."""
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
