"""What every backend promises: it runs the graphs of an exported codec, by name."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock
from typing import Any, ClassVar, Literal

import numpy as np

Precision = Literal["float32", "bfloat16"]
Arrays = Mapping[str, np.ndarray]

_threads: int | None = None  # of a graph in this process, where a backend is told none


def limit_threads(threads: int) -> None:
    """Set how many threads the graphs of this process may use, where a backend is told none."""
    global _threads
    _threads = threads


class Backend:
    """Runs graphs; a subclass writes `prepare` and `execute`.

    Args:
        graphs: ONNX files (torch: functions) by the name of their graph, each made ready when it
            is first run.
        threads: that a graph may use; if None, as `limit_threads` says, or as there are
            cores.
        precision: of what is computed. "bfloat16" is for processors that are fast in it, and
            changes codes.

    Raises:
        ImportError: the library is not installed; says how to.
        ValueError: a precision that this backend has not.
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
            raise ValueError(f"backend {type(self).__name__.lower()} runs in {known}")
        self.graphs = dict(graphs)
        self.threads = _threads if threads is None else threads
        self.precision = precision
        self._ready: dict[str, Any] = {}
        self._lock = Lock()

    def run(self, graph: str, inputs: Arrays) -> dict[str, np.ndarray]:
        """Outputs by name of a graph run on inputs by name; threads may share a backend.

        Raises:
            ValueError: there is no such graph, or its file cannot be run.
        """
        if graph not in self.graphs:
            raise ValueError(f"no graph {graph!r} here; there are {', '.join(self.graphs)}")
        with self._lock:
            if graph not in self._ready:
                self._ready[graph] = self.prepare(self.graphs[graph])
        return self.execute(self._ready[graph], inputs)

    def prepare(self, file: Any) -> Any:
        """What `execute` is given: the file made ready to run.

        Raises:
            ValueError: it cannot be run; names it.
        """
        raise NotImplementedError

    def execute(self, ready: Any, inputs: Arrays) -> dict[str, np.ndarray]:
        """Outputs by name."""
        raise NotImplementedError
