"""Configuration of all tests: shapes are checked, the network is blocked, seeds are set."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# Nothing of what collecting tests makes is garbage: looking for it took a quarter of the time.
gc.disable()


def pytest_collection_finish() -> None:
    """Collect garbage from here on, but for what stays until the end."""
    gc.freeze()
    gc.enable()


# Set before any import that reads them, so that tests write nothing to the user's own folders.
HOME = tempfile.mkdtemp(prefix="audiotok-tests-")
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
for name in ("HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR", "TORCH_HOME", "HF_HOME"):
    os.environ[name] = HOME
# Compiling librosa's functions takes a minute, so the result is cached between runs.
os.environ["NUMBA_CACHE_DIR"] = os.path.join(tempfile.gettempdir(), f"audiotok-numba-{os.getuid()}")  # noqa: PTH118
# Processes that tests kill leave sockets (`pymp-*`), which go with this folder. The folders of
# tests, which pytest keeps, and those of ray, whose paths have a greatest length, stay outside.
for name in ("PYTEST_DEBUG_TEMPROOT", "RAY_TMPDIR"):
    os.environ.setdefault(name, tempfile.gettempdir())
os.environ["TMPDIR"] = tempfile.tempdir = tempfile.mkdtemp(prefix="t-", dir=HOME)
Path(HOME).chmod(0o711)  # a test's command may run as another user
Path(tempfile.tempdir).chmod(0o1777)
os.environ["HF_HUB_OFFLINE"] = "1"
# Measuring which backend is fastest takes seconds in each fresh folder; tests of that choose it.
os.environ["AUDIOTOK_BACKEND"] = "torch"
# Two processes of tests keep two cores busy; threads that wait for each other add to that.
os.environ["OMP_NUM_THREADS"] = "1"

import runtime_types  # noqa: E402

# Before audiotok is imported, so that all its annotations are checked at run time.
runtime_types.install("audiotok")
pytest.register_assert_rewrite("contracts", "audiotok.testing")

import torch  # noqa: E402

torch.set_num_threads(1)


def _at_home(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a `connect` that refuses addresses other than this machine's."""

    def guarded(self: socket.socket, address: Any) -> Any:
        host = address[0] if isinstance(address, tuple) else "localhost"  # a unix socket's path
        if host not in ("127.0.0.1", "::1", "localhost"):
            raise PermissionError(f"tests use no network, and {address!r} is not this machine")
        return function(self, address)

    return guarded


@pytest.fixture(autouse=True, scope="session")
def _no_network() -> Iterator[None]:
    """Block connections to other machines."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", _at_home(socket.socket.connect))
        patch.setattr(socket.socket, "connect_ex", _at_home(socket.socket.connect_ex))
        yield


@pytest.fixture(autouse=True)
def _denormals() -> Iterator[None]:
    """Switch denormals back on after a test, since training switches them off for the process."""
    yield
    torch.set_flush_denormal(False)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Seed torch before each test."""
    torch.manual_seed(0)
