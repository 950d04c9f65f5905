"""Ways to run the decoder of `speech` in 8 bits: time of a step, noise, and whether a cut is exact.

    python tests/bench/quantized.py [--rounds 5] [--json FILE]

torch with integers (`load(..., precision="int8")`) beside the graph that ships, which onnxruntime
quantizes in three ways: `dynamic`, a scale for the whole input of a product; `blocks`, MatMulNBits
with scales for 128 weights; `rows`, a scale for every frame, written out around MatMulInteger. One
thread, its processor time, the fastest of the rounds. Noise is below the float32 decoder's sound.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from clips import ROOT, commit, machine, shown
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.matmul_nbits_quantizer import (
    DefaultWeightOnlyQuantConfig,
    MatMulNBitsQuantizer,
)

from audiotok import Audio, load

GRAPH = ROOT / "audiotok/codecs/weights/speech.decoder_step.onnx"
RECORDING = ROOT / "egs/data/reading.flac"
FRAMES = (1, 8, 128)
CUT = 40  # frames: the first step of a cut recording
LEAST = 4096  # elements of a weight that is quantized

Run = Callable[[np.ndarray], np.ndarray]  # codes [1 k f] from the start to samples


def session(path: Path, folded: Path | None = None) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    if folded:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(folded)
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def by_rows(source: Path, target: Path) -> None:
    """Compute each product in integers, with a scale for every row of its input."""
    model = onnx.load(source)
    weights = {one.name: one for one in model.graph.initializer}
    constants = {
        "int8.least": np.float32(1 / 127),
        "int8.axis": np.array([-1]),
        "int8.zero": np.uint8(128),
        "int8.offset": np.float32(128),
    }
    nodes = []
    for i, node in enumerate(model.graph.node):
        weight = weights.get(node.input[1]) if node.op_type == "MatMul" else None
        if weight is None or np.prod(weight.dims) < LEAST:
            nodes.append(node)
            continue
        value = numpy_helper.to_array(weight)
        scale = (np.abs(value).max(0) / 127).astype(np.float32)
        n = f"int8.{i}."
        constants |= {f"{n}w": np.round(value / scale).astype(np.int8), f"{n}ws": scale}
        steps = [
            ("Abs", [node.input[0]], "a", {}),
            ("ReduceMax", [f"{n}a", "int8.axis"], "m", {"keepdims": 1}),
            ("Mul", [f"{n}m", "int8.least"], "s", {}),
            ("Div", [node.input[0], f"{n}s"], "d", {}),
            ("Add", [f"{n}d", "int8.offset"], "o", {}),
            ("Round", [f"{n}o"], "r", {}),
            ("Cast", [f"{n}r"], "q", {"to": onnx.TensorProto.UINT8}),
            ("MatMulInteger", [f"{n}q", f"{n}w", "int8.zero"], "i", {}),
            ("Cast", [f"{n}i"], "f", {"to": onnx.TensorProto.FLOAT}),
            ("Mul", [f"{n}f", f"{n}ws"], "g", {}),
        ]
        nodes += [helper.make_node(op, x, [n + y], **more) for op, x, y, more in steps]
        nodes.append(helper.make_node("Mul", [f"{n}g", f"{n}s"], [*node.output]))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    tensors = (numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items())
    model.graph.initializer.extend(tensors)
    onnx.save(model, target)


def graphs(folder: Path) -> Iterator[tuple[str, Path]]:
    """Write the graph of the decoder in each way, and yield their names and files."""
    plain = folder / "float32.onnx"
    session(GRAPH, plain)
    yield "onnx, float32", plain
    kinds: Any = {"weight_type": QuantType.QInt8, "op_types_to_quantize": ["MatMul"]}
    quantize_dynamic(plain, folder / "dynamic.onnx", per_channel=True, **kinds)
    yield "onnx, dynamic", folder / "dynamic.onnx"
    settings: Any = {"block_size": 128, "is_symmetric": True, "accuracy_level": 4, "bits": 8}
    blocks: Any = MatMulNBitsQuantizer(
        onnx.load(plain), algo_config=DefaultWeightOnlyQuantConfig(**settings)
    )
    blocks.process()
    blocks.model.save_model_to_file(str(folder / "blocks.onnx"))
    yield "onnx, blocks", folder / "blocks.onnx"
    by_rows(plain, folder / "rows.onnx")
    yield "onnx, rows", folder / "rows.onnx"


def in_onnx(path: Path) -> Run:
    run = session(path)
    shapes = load("speech", backend="onnx", threads=1).plan.decoder
    states = {name: np.zeros((1, *shape), kind) for name, (kind, shape) in shapes.items()}
    return lambda codes: run.run(["audio"], {"codes": codes, **states})[0]


def in_torch(precision: Any) -> Run:
    codec = load("speech", precision=precision)

    @torch.inference_mode()
    def decode(codes: np.ndarray) -> np.ndarray:
        latent = codec.quantizer.decode(torch.from_numpy(codes))
        return codec.step_wave(latent, codec.start_wave(1), codes.shape[2])[0].numpy()

    return decode


def fastest(run: Run, codes: np.ndarray, rounds: int) -> float:
    """Milliseconds of the processor for a step."""
    run(codes)
    best = float("inf")
    for _ in range(rounds):
        began = time.process_time()
        for _ in range(10):
            run(codes)
        best = min(best, (time.process_time() - began) / 10)
    return 1000 * best


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--json", type=Path, help="file to write the results to")
    chosen = options.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    codes = load("speech").encode(Audio.load(RECORDING)).codes[None, :, 100:228].astype(np.int64)
    scores: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        ways: dict[str, Run] = {
            "torch, float32": in_torch("float32"),
            "torch, int8": in_torch("int8"),
            **{title: in_onnx(path) for title, path in graphs(Path(name))},
        }
        exact = ways["torch, float32"](codes)
        for title, run in ways.items():
            wave = run(codes)
            cut = run(np.ascontiguousarray(codes[:, :, :CUT]))
            noise = ((wave - exact) ** 2).mean() / (exact**2).mean()
            steps = {n: np.ascontiguousarray(codes[:, :, :n]) for n in FRAMES}
            row = {f"{n} frames, ms": fastest(run, x, chosen.rounds) for n, x in steps.items()}
            row["noise, dB"] = float(10 * np.log10(max(noise, 1e-12)))
            row["cut is off by"] = float(np.abs(cut - wave[:, :, : cut.shape[2]]).max())
            scores[title] = row
            print(title, {k: round(v, 6) for k, v in row.items()}, flush=True)
    if chosen.json:
        about = {
            "command": f"python tests/bench/quantized.py {shown(sys.argv[1:])}",
            "machine": f"{machine()}, shared with other work",
            "software": f"torch {torch.__version__}, onnxruntime {ort.__version__}",
            "date": datetime.now(timezone.utc).date().isoformat(),
            "commit": commit(ROOT),
            "unit": "processor time of a step, one thread",
        }
        chosen.json.write_text(json.dumps(about | {"scores": scores}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
