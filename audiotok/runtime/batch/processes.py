"""Start of worker processes with a pipe, on Linux as copies of one that has done the imports."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from multiprocessing import get_context, util
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from audiotok._platform.errors import InputError
from audiotok._platform.signals import no_interrupt

TORCH = ("audiotok.codecs.checkpoint",)  # what a process that runs codecs in torch imports
GRAPHS = ("audiotok.codecs.load", "audiotok.runtime.files")  # of one that runs graphs of codecs
LONGEST = 75  # characters of a folder of temporary files in which a socket can have a name
SHORT = ("/tmp", "/var/tmp")


def imports_of(backend: str | None) -> Sequence[str]:
    """Return what processes import that run codecs in a backend."""
    return TORCH if backend == "torch" else GRAPHS


def start_process(
    target: Callable[..., Any], *arguments: Any, folder: str, imports: Sequence[str] = TORCH
) -> tuple[BaseProcess, Connection]:
    """Start a process that runs `target(pipe, *arguments)`, and return it and our end of the pipe.

    On Linux all processes are copies of one that has done the imports, which takes more of a second
    than the rest of their start. It is no copy of this process, since the copy of a process that
    has run torch hangs. The process that is copied starts with the first, so its imports are those
    of the first call.

    Args:
        target: function at the top level of a module.
        arguments: arguments of the function, which can be pickled.
        folder: folder of the temporary files of the process. The caller removes it in the end: a
            process that is ended may be in the midst of making a file, of which it knows nothing.
        imports: modules that the process needs, and that start no threads when imported, as
            onnxruntime does; those of numpy's matrix products bear being copied.

    Raises:
        InputError: the folder of temporary files has too long a name, and there is no other.
    """
    context = get_context("forkserver" if sys.platform == "linux" else "spawn")
    if sys.platform == "linux":
        _place_sockets()
    context.set_forkserver_preload([*imports])
    ours, theirs = context.Pipe()
    process = context.Process(
        target=_run,
        args=(os.environ | {"TMPDIR": folder}, target, theirs, *arguments),
        daemon=True,
    )
    with no_interrupt():
        process.start()
    theirs.close()
    return process, ours


def _place_sockets() -> None:
    """Let multiprocessing make its folder of sockets where their names are short enough.

    It makes one for the process, the first time that it is asked for it, in the folder of temporary
    files, which may have a long name on a cluster.
    """
    own = tempfile.gettempdir()
    if len(own) <= LONGEST:
        return
    short = next((folder for folder in SHORT if os.access(folder, os.W_OK | os.X_OK)), None)
    if short is None:
        raise InputError(
            f"{own}: too long a name of a folder of temporary files for several processes: set "
            f"TMPDIR to one of at most {LONGEST} characters, or use one process"
        )
    tempfile.tempdir = short
    try:
        util.get_temp_dir()
    finally:
        tempfile.tempdir = own


def _run(environment: dict[str, str], target: Callable[..., Any], *arguments: Any) -> None:
    """Run a function in the environment of the process that asks, not of the one copied."""
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # to be read from the environment
    target(*arguments)
