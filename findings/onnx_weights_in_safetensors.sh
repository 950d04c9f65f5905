#!/usr/bin/env bash
# onnxruntime 1.32.0, OpenVINO 2026.4.1: a graph reads its weights out of a .safetensors file.
#
# One would expect that a model in ONNX needs its weights once more, in its own file or in one that
# the exporter wrote beside it. But "external data" of ONNX is any file, with an offset and a length,
# and a tensor in a safetensors file is its bare little-endian values. So one checkpoint serves
# both: the offset is 8 + the length of the JSON header + data_offsets[0]. float16 weights work too,
# with a Cast to float32 after them, which both programs compute once when they load the graph, and
# a Transpose for Linear weights, which torch keeps as [out in]. Offsets need no page alignment,
# although ONNX recommends it. The file must lie in the folder of the graph or below it.
#
# Seen 2026-11-29, Linux x86-64, Python 3.11:
#   graph 0.2 kB, checkpoint 524.4 kB, weights at byte 150
#   onnxruntime  furthest 0.0
#   openvino     furthest 0.0
#
# Exits with 0 as long as this is so, with 1 when it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet numpy==2.2.6 safetensors==0.6.2 onnx==1.19.1 \
  onnxruntime==1.32.0 openvino==2026.4.1
cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import json
import struct
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper
from safetensors.numpy import save_file

random = np.random.default_rng(0)
bias = random.standard_normal(3).astype(np.float16)
weight = random.standard_normal((512, 512)).astype(np.float16)
save_file({"a.bias": bias, "linear.weight": weight}, "model.safetensors")
content = Path("model.safetensors").read_bytes()
(size,) = struct.unpack("<Q", content[:8])
facts = json.loads(content[8 : 8 + size])["linear.weight"]
begin, end = (8 + size + at for at in facts["data_offsets"])

stored = TensorProto(name="stored", data_type=TensorProto.FLOAT16, dims=weight.shape)
stored.data_location = TensorProto.EXTERNAL
place = {"location": "model.safetensors", "offset": begin, "length": end - begin}
for key, value in place.items():
    stored.external_data.add(key=key, value=str(value))
graph = helper.make_graph(
    [
        helper.make_node("Cast", ["stored"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["wide"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "turned"], ["y"]),
    ],
    "g",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 512])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 512])],
    [stored],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
Path("graph.onnx").write_bytes(model.SerializeToString())
sizes = [len(Path(name).read_bytes()) / 1000 for name in ("graph.onnx", "model.safetensors")]
print(f"graph {sizes[0]:.1f} kB, checkpoint {sizes[1]:.1f} kB, weights at byte {begin}")

x = np.eye(512, dtype=np.float32)
right = weight.astype(np.float32).T
session = onnxruntime.InferenceSession("graph.onnx", providers=["CPUExecutionProvider"])
compiled = openvino.Core().compile_model(
    "graph.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
)
outputs = {
    "onnxruntime": session.run(None, {"x": x})[0],
    "openvino": compiled({"x": x})[0],
}
apart = {name: float(np.abs(y - right).max()) for name, y in outputs.items()}
for name, furthest in apart.items():
    print(f"{name:12} furthest {furthest}")
same = all(furthest < 1e-6 for furthest in apart.values())
print("as described" if same else "this has changed")
sys.exit(not same)
PYTHON
