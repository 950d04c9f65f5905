"""Backend of OpenVINO, the fastest on Intel processors, also in bfloat16 where supported."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from audiotok._platform.errors import InputError
from audiotok._platform.optional import optional_import
from audiotok.runtime.backends.base import Arrays, Backend, Precision


class Openvino(Backend):
    """Backend of OpenVINO on the CPU."""

    precisions: ClassVar[tuple[Precision, ...]] = ("float32", "bfloat16")

    def prepare(self, file: Path) -> Any:
        """See `Backend.prepare`; this is a model compiled for one run at a time."""
        library: Any = optional_import("openvino", extra="openvino")
        properties = {
            "PERFORMANCE_HINT": "LATENCY",
            # The default is bfloat16 wherever the processor has it, which changes codes.
            "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[self.precision],
        }
        if self.threads:
            properties["INFERENCE_NUM_THREADS"] = str(self.threads)
        core = library.Core()
        able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if self.precision == "bfloat16" and "BF16" not in able:  # it would run in float32 unsaid
            raise InputError("this CPU has no bfloat16, which it needs to be faster: use float32")
        try:
            model = core.read_model(file)
            _replace_argmin(library.opset13, model)
            return core.compile_model(model, "CPU", properties)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:300]
            raise InputError(f"{file}: OpenVINO cannot run it: {reason}") from None

    def execute(self, ready: Any, inputs: Arrays) -> dict[str, np.ndarray]:
        """See `Backend.execute`; each run has its own request, as threads may share the model."""
        outputs = ready.create_infer_request().infer(dict(inputs))
        return {output.get_any_name(): np.array(outputs[output]) for output in ready.outputs}


def _replace_argmin(op: Any, model: Any) -> None:
    """Replace each argmin by two minima, with the first of equal values.

    OpenVINO computes an argmin by sorting, which takes a fifth of the time of EnCodec's encoder in
    bfloat16.
    """
    for node in model.get_ordered_ops():
        if node.get_type_name() != "TopK" or node.output(0).get_target_inputs():
            continue
        facts, row = node.get_attributes(), node.input_value(0)
        shape, axis = row.get_partial_shape(), facts["axis"]
        one = node.output(0).get_partial_shape()[axis] == 1
        if facts["mode"] != "min" or not one or not shape[axis].is_static:
            continue
        size = shape[axis].get_length()
        indices = np.arange(size, dtype=np.int32)
        indices = indices.reshape([-1 if i == axis else 1 for i in range(len(shape))])
        along, last = op.constant(np.array([axis])), op.constant(np.int32(size - 1))
        least = op.equal(row, op.reduce_min(row, along, keep_dims=True))
        index = op.reduce_min(op.select(least, op.constant(indices), last), along, keep_dims=True)
        kind = node.output(1).get_element_type()
        node.output(1).replace(op.convert(index, kind.to_string()).output(0))
    model.validate_nodes_and_infer_types()
