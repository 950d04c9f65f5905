"""What is not here: a library that is not installed, weights that nobody has put down."""

from __future__ import annotations

from importlib import import_module, metadata
from types import ModuleType


class MissingModelError(ValueError):
    """Weights that are not here: what needs them is not run at all, which is not its failure."""


def needed(library: str, package: str = "", *, extra: str = "metrics") -> ModuleType:
    """A library of an extra.

    Args:
        library: as it is imported.
        package: as it is installed, where that is another name.
        extra: which one it belongs to.

    Raises:
        ImportError: it is not installed; says how to.
    """
    try:
        return import_module(library)
    except ImportError as error:
        way = f"pip install {package or library}, or 'audiotok[{extra}]'"
        raise ImportError(f"the {library} package cannot be imported ({error}): {way}") from None


def version(package: str) -> str:
    """Name and version of an installed package, as protocols print them."""
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return f"{package} (not installed)"
