"""Quantization of an ONNX file's weights to 8 bits: a quarter of the size, and some other codes.

Each output feature of a matrix product or convolution has a scale of its own, and its weights are
turned back into floats when the file is run (`DequantizeLinear`, which every runtime has).
Codebooks and recurrences keep their floats.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from audiotok._platform.optional import optional_import

LEAST = 4096  # smallest number of elements of a weight that is quantized


def quantize(source: Path, target: Path) -> None:
    """Copy an ONNX file with its large weights as 8-bit integers.

    Args:
        source: the file to read.
        target: the file to write.

    Raises:
        ImportError: the onnx package is not installed.
    """
    onnx: Any = optional_import("onnx", extra="export")
    model = onnx.load(source)
    graph = model.graph
    weights = {one.name: one for one in graph.initializer}
    axes = {name: axis for name, axis in _axes(graph, weights).items() if axis is not None}
    added = []
    for name, axis in axes.items():
        value = onnx.numpy_helper.to_array(weights[name])
        others = tuple(i for i in range(value.ndim) if i != axis)
        scale = np.abs(value).max(others).astype(np.float32) / 127
        scale[scale == 0] = 1
        shape = [-1 if i == axis else 1 for i in range(value.ndim)]
        small = np.round(value / scale.reshape(shape)).astype(np.int8)
        graph.initializer.remove(weights[name])
        graph.initializer.extend(
            [
                onnx.numpy_helper.from_array(small, f"{name}.int8"),
                onnx.numpy_helper.from_array(scale, f"{name}.scale"),
            ]
        )
        inputs = [f"{name}.int8", f"{name}.scale"]
        added.append(onnx.helper.make_node("DequantizeLinear", inputs, [name], axis=axis))
    nodes = [*added, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, target)


def _axes(graph: Any, weights: dict[str, Any]) -> dict[str, int | None]:
    """Return the axis of output features of each weight; None where it is not quantized."""
    axes: dict[str, int | None] = {}
    for node in graph.node:
        for position, name in enumerate(node.input):
            if name not in weights:
                continue
            axis = _axis(node, position, len(weights[name].dims))
            small = int(np.prod(weights[name].dims)) < LEAST
            # A Fourier basis is no weight, and rounding it would cost much quality.
            small = small or name.endswith("basis")
            if small or weights[name].data_type != 1 or axes.get(name, axis) != axis:
                axis = None
            axes[name] = axis
    return axes


def _axis(node: Any, position: int, axes: int) -> int | None:
    """Return the axis of output features if input `position` of a node is a weight, or None."""
    if position != 1 or axes < 2:
        return None
    if node.op_type == "MatMul":
        return axes - 1
    if node.op_type == "Gemm":
        return 0 if any(a.name == "transB" and a.i for a in node.attribute) else 1
    return {"Conv": 0, "ConvTranspose": 1}.get(node.op_type)
