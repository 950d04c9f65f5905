"""OpenVINO: the fastest on Intel's processors, in bfloat16 too where they have it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from audiotok._platform.optional import needed
from audiotok.runtime.backends.base import Arrays, Backend, Precision


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
            model = core.read_model(file)
            _find_least(library.opset13, model)
            return core.compile_model(model, "CPU", properties)
        except RuntimeError as error:
            said = " ".join(str(error).split())[:300]
            raise ValueError(f"{file}: OpenVINO cannot run it: {said}") from None

    def execute(self, ready: Any, inputs: Arrays) -> dict[str, np.ndarray]:
        """See `Backend.execute`; a request of its own for each run, as threads may share it."""
        made = ready.create_infer_request().infer(dict(inputs))
        return {output.get_any_name(): np.array(made[output]) for output in ready.outputs}


def _find_least(op: Any, model: Any) -> None:
    """Finds where the least of a row is, the first of equals, by two minima: OpenVINO sorts for
    it, which takes a fifth of the time of EnCodec's encoder in bfloat16."""
    for node in model.get_ordered_ops():
        if node.get_type_name() != "TopK" or node.output(0).get_target_inputs():
            continue
        facts, row = node.get_attributes(), node.input_value(0)
        shape, axis = row.get_partial_shape(), facts["axis"]
        one = node.output(0).get_partial_shape()[axis] == 1
        if facts["mode"] != "min" or not one or not shape[axis].is_static:
            continue
        size = shape[axis].get_length()
        places = np.arange(size, dtype=np.int32)
        places = places.reshape([-1 if i == axis else 1 for i in range(len(shape))])
        along, last = op.constant(np.array([axis])), op.constant(np.int32(size - 1))
        least = op.equal(row, op.reduce_min(row, along, keep_dims=True))
        place = op.reduce_min(op.select(least, op.constant(places), last), along, keep_dims=True)
        kind = node.output(1).get_element_type()
        node.output(1).replace(op.convert(place, kind.to_string()).output(0))
    model.validate_nodes_and_infer_types()
