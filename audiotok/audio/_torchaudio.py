"""Import of torchaudio even where its compiled extension does not fit the installed torch.

The torchaudio wheel on PyPI is built for CUDA: beside a CPU-only torch its extension cannot find
the CUDA libraries and `import torchaudio` raises OSError. audiotok does not need that extension:
the Python parts (resample, mel, kaldi fbank, pipelines) work with an empty `torchaudio._extension`
in its place. A torchaudio that loads by itself is used as it is.
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable
from typing import Any


def load() -> types.ModuleType:
    """Return the torchaudio module; afterwards `import torchaudio` works in the whole process.

    Raises:
        ImportError: torchaudio is not installed, or fails for another reason than its extension.
    """
    try:
        return importlib.import_module("torchaudio")
    except (
        OSError,
        ImportError,
        RuntimeError,
    ) as error:  # RuntimeError: its CUDA version is not torch's
        if not _came_from_extension(error):
            raise
    for name in [n for n in sys.modules if n == "torchaudio" or n.startswith("torchaudio.")]:
        del sys.modules[name]  # only partly imported
    stub = _Stub("torchaudio._extension")
    sys.modules[stub.__name__] = stub
    module = importlib.import_module("torchaudio")
    vars(module)["_extension"] = stub
    return module


def _came_from_extension(error: BaseException) -> bool:
    """Return whether an error was raised within torchaudio's extension."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__", "").startswith("torchaudio._extension"):
            return True
        trace = trace.tb_next
    return False


class _Stub(types.ModuleType):
    """Stand-in for torchaudio's extension that says of every feature that it is not available."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_IS_"):
            return False
        if name == "_load_lib":
            return lambda lib: False
        if name.startswith(("fail_if_no_", "lazy_import_")):
            return _unavailable
        raise AttributeError(f"{self.__name__} has no {name!r}: the extension is not loaded")


def _unavailable(function: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """Return a function that raises RuntimeError when called, in place of one of torchaudio."""
    name = getattr(function, "__name__", "this function")

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(
            f"torchaudio's {name} needs its compiled extension, which does not fit this torch"
        )

    return fail
