"""Backend of torch, which runs the graphs as the functions that are traced for export.

Other backends are compared with it, and torch.compile is tried on it. `load(..., backend="torch")`
runs the codec itself instead.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from audiotok.runtime.backends.base import Arrays, Backend


class Torch(Backend):
    """Backend of torch; its `graphs` are those of `export.graphs`.

    Attributes:
        compiles: whether graphs are compiled by `torch.compile`.
    """

    compiles: bool = False

    def prepare(self, file: Any) -> Any:
        """See `Backend.prepare`; this is the graph and its function."""
        import torch

        return file, torch.compile(file.run) if self.compiles else file.run

    def execute(self, ready: Any, inputs: Arrays) -> dict[str, np.ndarray]:
        """See `Backend.execute`."""
        import torch

        graph, run = ready
        names = [*([graph.takes] if graph.takes else []), *graph.states]
        with torch.no_grad():
            values = run(
                *(
                    torch.from_numpy(np.require(inputs[name], requirements=["C", "W"]))
                    for name in names
                )
            )
        outputs = [graph.gives, *graph.handed]
        return {name: value.numpy() for name, value in zip(outputs, values, strict=True)}
