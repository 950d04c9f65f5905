"""torch: the graphs as functions, as they are traced. `load(..., backend="torch")` runs the codec
itself; this is what the others are compared with, and what torch.compile is tried on."""

from __future__ import annotations

from typing import Any

import numpy as np

from audiotok.runtime.backends.base import Arrays, Backend


class Torch(Backend):
    """See `Backend`; `graphs` are those of `export.graphs`.

    Attributes:
        compiles: whether `torch.compile` makes them ready.
    """

    compiles: bool = False

    def prepare(self, file: Any) -> Any:
        """The graph, and its function."""
        import torch

        return file, torch.compile(file.run) if self.compiles else file.run

    def execute(self, ready: Any, inputs: Arrays) -> dict[str, np.ndarray]:
        """See `Backend.execute`."""
        import torch

        graph, run = ready
        names = [*([graph.takes] if graph.takes else []), *graph.states]
        with torch.no_grad():
            made = run(
                *(
                    torch.from_numpy(np.require(inputs[name], requirements=["C", "W"]))
                    for name in names
                )
            )
        outputs = [graph.gives, *graph.handed]
        return {name: value.numpy() for name, value in zip(outputs, made, strict=True)}
