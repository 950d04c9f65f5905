"""Base class of backends, which run the graphs of an exported codec by name."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from threading import Lock
from typing import Any, ClassVar, Literal

import numpy as np

from audiotok._platform.errors import InputError

Precision = Literal["float32", "bfloat16", "int8"]
Arrays = Mapping[str, np.ndarray]

_threads: int | None = None  # number of threads in this process, as far as it was set


def limit_threads(threads: int) -> None:
    """Set the number of threads that a graph, or torch, may use in this process."""
    global _threads
    _threads = threads
    if torch := sys.modules.get("torch"):  # else OMP_NUM_THREADS tells it
        torch.set_num_threads(threads)


def thread_limit() -> int | None:
    """Return the number that `limit_threads` has set in this process, or None."""
    return _threads


class Backend:
    """Runner of graphs; a subclass implements `prepare` and `execute`.

    Args:
        graphs: ONNX files (torch: functions) by the name of their graph; each is prepared when it
            is first run.
        threads: number of threads that a graph may use; if None, the number set by `limit_threads`
            or else that of cores.
        precision: precision of the computation. "bfloat16" is for processors that support it, and
            changes codes; "int8" is torch's.

    Attributes:
        precisions: precisions that the backend supports.

    Raises:
        ImportError: the library is not installed; says how to install it.
        ValueError: the backend does not support the precision.
    """

    precisions: ClassVar[tuple[Precision, ...]] = ("float32",)

    def __init__(
        self,
        graphs: Mapping[str, Any],
        *,
        threads: int | None = None,
        precision: Precision = "float32",
    ) -> None:
        if precision not in self.precisions:
            known = ", ".join(self.precisions)
            name = type(self).__name__.lower()
            raise InputError(f"backend {name} runs in {known}, not in {precision}")
        self.graphs = dict(graphs)
        self.threads = _threads if threads is None else threads
        self.precision = precision
        self._ready: dict[str, Any] = {}
        self._lock = Lock()

    def run(self, graph: str, inputs: Arrays) -> dict[str, np.ndarray]:
        """Run a graph on inputs by name, and return its outputs by name.

        Several threads may share a backend.

        Raises:
            ValueError: there is no such graph, or its file cannot be run.
        """
        if graph not in self.graphs:
            raise InputError(f"no graph {graph!r} here; there are {', '.join(self.graphs)}")
        with self._lock:
            if graph not in self._ready:
                self._ready[graph] = self.prepare(self.graphs[graph])
        return self.execute(self._ready[graph], inputs)

    def prepare(self, file: Any) -> Any:
        """Load a file for `execute`.

        Raises:
            ValueError: the file cannot be run; the message names it.
        """
        raise NotImplementedError

    def execute(self, ready: Any, inputs: Arrays) -> dict[str, np.ndarray]:
        """Run the result of `prepare` on inputs by name, and return its outputs by name."""
        raise NotImplementedError
