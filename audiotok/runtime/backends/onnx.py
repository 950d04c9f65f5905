"""Backend of onnxruntime, which runs everywhere and needs only numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from audiotok._platform.errors import InputError
from audiotok._platform.optional import optional_import
from audiotok.runtime.backends.base import Arrays, Backend


class Onnx(Backend):
    """Backend of onnxruntime on the CPU."""

    def prepare(self, file: Path) -> Any:
        """See `Backend.prepare`; this is a session on the CPU."""
        ort = optional_import("onnxruntime", extra="onnx")
        options = ort.SessionOptions()
        options.log_severity_level = 3  # no warnings, which are only about inferred shapes
        options.intra_op_num_threads = self.threads or 0
        # Threads that spin while they wait take the cores away from everything else.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            return ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors have no common base class
            raise InputError(f"{file}: onnxruntime cannot run it: {_line(error)}") from None

    def execute(self, ready: Any, inputs: Arrays) -> dict[str, np.ndarray]:
        """See `Backend.execute`."""
        names = [output.name for output in ready.get_outputs()]
        return dict(zip(names, ready.run(names, dict(inputs)), strict=True))


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
