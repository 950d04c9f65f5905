"""Imports of single modules of other packages, without the dependencies of the packages."""

from __future__ import annotations

import sys
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module, resources
from importlib.util import find_spec
from typing import Any

import pytest
from torch import nn

from audiotok.audio import _torchaudio

# Packages that audiotools imports, but does not need for spectra.
UNUSED = ("julius", "ffmpy", "flatten_dict")


@contextmanager
def modules(*packages: str) -> Iterator[None]:
    """Import modules of packages without running the packages' `__init__`, within the context.

    `sys.modules` is restored at the end. The test is skipped if a package is not installed.

    Args:
        *packages: names of the packages.
    """
    _torchaudio.load()
    before = dict(sys.modules)
    for name in packages:
        for mine in [n for n in sys.modules if n == name or n.startswith(f"{name}.")]:
            del sys.modules[mine]
        spec = find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            pytest.skip(f"{name} is not installed")
        bare = types.ModuleType(name)
        bare.__path__ = list(spec.submodule_search_locations)
        sys.modules[name] = bare
    for name in UNUSED:
        sys.modules.setdefault(name, _Anything(name))
    sys.modules.setdefault("importlib_resources", resources)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # for deprecated weight_norm and invalid escapes
            yield
    finally:
        for name in set(sys.modules) - set(before):
            if name.partition(".")[0] in (*packages, *UNUSED, "importlib_resources"):
                del sys.modules[name]
        sys.modules.update(before)


def audiotools() -> types.ModuleType:
    """Return `audiotools` with its signals and spectra, within `modules("audiotools", ...)`."""
    signal = import_module("audiotools.core.audio_signal")
    package = sys.modules["audiotools"]
    vars(package).update(
        AudioSignal=signal.AudioSignal,
        STFTParams=signal.STFTParams,
        ml=types.SimpleNamespace(BaseModel=nn.Module),
    )
    return package


class _Anything(types.ModuleType):
    """Module that has a class for every name."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})
