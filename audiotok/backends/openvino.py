"""OpenVINO: the fastest on Intel's processors, in bfloat16 too where they have it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from audiotok.backends.base import Arrays, Backend, Precision
from audiotok.missing import needed


class Openvino(Backend):
    """See `Backend`."""

    precisions: ClassVar[tuple[Precision, ...]] = ("float32", "bfloat16")

    def prepare(self, file: Path) -> Any:
        """A compiled model, tuned for one run at a time."""
        library: Any = needed("openvino", extra="openvino")
        properties = {
            "PERFORMANCE_HINT": "LATENCY",
            # By itself it takes bfloat16 wherever the processor has it, and other codes with it.
            "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[self.precision],
        }
        if self.threads:
            properties["INFERENCE_NUM_THREADS"] = str(self.threads)
        try:
            core = library.Core()
            return core.compile_model(core.read_model(file), "CPU", properties)
        except RuntimeError as error:
            said = " ".join(str(error).split())[:300]
            raise ValueError(f"{file}: OpenVINO cannot run it: {said}") from None

    def execute(self, ready: Any, inputs: Arrays) -> dict[str, np.ndarray]:
        """See `Backend.execute`; a request of its own for each run, as threads may share it."""
        made = ready.create_infer_request().infer(dict(inputs))
        return {output.get_any_name(): np.array(made[output]) for output in ready.outputs}
