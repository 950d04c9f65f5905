"""Export of a codec to a folder of ONNX files and codec.json, which appears when it is checked."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from audiotok._platform.atomic import atomic_folder
from audiotok._platform.optional import optional_import, version
from audiotok.audio.audio import Audio
from audiotok.codecs.export.graphs import OPSET, Graph, States, data_of, stepwise, whole, write
from audiotok.codecs.export.int8 import quantize
from audiotok.codecs.export.parity import Parity, compare
from audiotok.codecs.export.supported import check_exportable
from audiotok.codecs.models.base import Codec
from audiotok.nn.pretrained.hub import sha256_of
from audiotok.runtime.backends.onnx import Onnx
from audiotok.runtime.exported import (
    FORMAT,
    METADATA,
    Exported,
    ExportError,
    is_exported,
    plan_to_json,
)
from audiotok.runtime.graph_executor import GraphPlan


def export(
    codec: Codec,
    out: str | Path,
    *,
    codebooks: int | None = None,
    steps: bool = False,
    rings: bool = False,
    int8: bool = False,
    audio: Audio | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Export a codec as ONNX: `encoder` and `decoder` of whole recordings, and codec.json.

    The graphs take any length and any batch.

    Args:
        codec: a codec on any device.
        out: a folder that does not exist yet.
        codebooks: number of codebooks to export, from the first (all if None): fewer are cheaper to
            search.
        steps: whether to export graphs of any number of frames too, with states in and out.
        rings: whether the states of attention are ring buffers that the caller writes into, which
            takes 0.6 of the time for many signals side by side (`graph_executor.GraphPlan`).
        int8: whether to store large weights as 8-bit integers; codes then differ, and codec.json
            tells by how much.
        audio: recording to compare on; synthetic speech if None.
        force: whether to replace an exported codec in the folder.

    Returns:
        The content of codec.json.

    Raises:
        ExportError: it cannot be written as ONNX, or differs from torch; the message tells by how
            much.
        ImportError: onnx, onnxscript or onnxruntime is not installed; the message tells how to
            install it.
    """
    check_exportable(codec, steps=steps or rings)
    for library in ("onnx", "onnxscript", "onnxruntime"):
        optional_import(library, extra="export")
    out = Path(out)
    if out.exists() and not (force and is_exported(out)):
        remedy = (
            "force=True overwrites it" if is_exported(out) else "name a folder that is not there"
        )
        raise ExportError(f"{out}: exists already; {remedy}")
    with atomic_folder(out) as folder:
        description = _write_graphs(
            codec, folder, codebooks=codec.kept(codebooks), steps=steps, rings=rings
        )
        parity = compare(codec, _open(description, folder), audio)
        if not parity.holds:
            raise ExportError(f"{codec.name} in ONNX is not what it is in torch: {parity}")
        description["parity"] = parity.to_json()
        if int8:
            description["int8"] = _quantize_graphs(codec, description, folder, audio).to_json()
        for graph in description["graphs"].values():
            file = folder / graph["file"]
            graph["sha256"] = sha256_of(file)
            graph["bytes"] = file.stat().st_size
            if (data := data_of(file)).exists():
                graph["data"] = {"file": data.name, "sha256": sha256_of(data)}
                graph["bytes"] += data.stat().st_size
        (folder / METADATA).write_text(json.dumps(description, indent=1) + "\n", "utf-8")
    return description


def _write_graphs(
    codec: Codec, folder: Path, *, codebooks: int, steps: bool, rings: bool
) -> dict[str, Any]:
    """Write the graphs to a folder and return their description without hashes."""
    try:
        graphs, states = whole(codec, codebooks), {}
        if steps or rings:
            more, states = stepwise(codec, codebooks, rings=rings)
            graphs += more
        for graph in graphs:
            write(graph, folder / f"{graph.name}.onnx")
    except ValueError as error:
        raise ExportError(str(error)) from None
    return described(codec, graphs, states, codebooks=codebooks)


def described(
    codec: Codec,
    graphs: Sequence[Graph],
    states: Mapping[str, States],
    *,
    codebooks: int,
) -> dict[str, Any]:
    """Return the content of codec.json for a codec and its graphs, without hashes and parity.

    Args:
        codec: the codec.
        graphs: its graphs.
        states: states of encoder and decoder from `stepwise`; empty if there are no steps.
        codebooks: number of exported codebooks.
    """
    plan = GraphPlan(
        frame_size=codec.frame_size,
        channels=codec.channels,
        codebooks=codebooks or codec.width,
        look_ahead=codec.look_ahead,
        fills_up=codec.fills_up,
        first_frames=codec.first_frames,
        block=codec.block,
        steps=bool(states),
        rings=tuple(name for mine in states.values() for name in mine.rings),
        encoder=_shapes(states.get("encoder")),
        decoder=_shapes(states.get("decoder")),
        latents=codec.width > 0,
    )
    return {
        "format": FORMAT,
        "codec": codec.name,
        "fingerprint": codec.fingerprint,
        "decoder_fingerprint": codec.decoder_fingerprint,
        "former_fingerprints": list(codec.former_fingerprints),
        "semantic_codebooks": codec.semantic_codebooks,
        "sample_rate": codec.sample_rate,
        "frame_size": codec.frame_size,
        "frame_rate": float(codec.frame_rate),
        "codebooks": codebooks,
        "sizes": list(codec.sizes[:codebooks]),
        "width": codec.width,
        "decodes": codec.decodes,
        "decoded_rate": codec.decoded_rate,
        "causal": codec.causal,
        "latency_ms": None if math.isinf(codec.latency) else 1000 * codec.latency,
        "plan": plan_to_json(plan),
        "opset": OPSET,
        "made_with": [version(name) for name in ("audiotok", "torch", "onnx", "onnxruntime")],
        "graphs": {graph.name: _graph(graph) for graph in graphs},
        "parity": None,
        "int8": None,
    }


def _shapes(states: States | None) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return type and shape of each state of one direction, for one signal."""
    named = {} if states is None else states.named
    return {name: (_dtype(x), tuple(x.shape[1:])) for name, x in named.items()}


def _dtype(x: Any) -> str:
    """Return the name of a tensor's type."""
    return str(x.dtype).removeprefix("torch.")


def _graph(graph: Graph) -> dict[str, Any]:
    """Return names, types and shapes of a graph; a free axis has a name ("batch", "samples")."""
    free = {"audio": "samples", "codes": "frames", "latents": "frames"}
    kinds = {"audio": "float32", "codes": "int64", "latents": "float32"}
    inputs: dict[str, Any] = {}
    if graph.example is not None:
        shape = ["batch", graph.example.shape[1], free[graph.input_name]]
        inputs[graph.input_name] = {
            "dtype": kinds[graph.input_name],
            "shape": shape,
            "least": graph.min_size,
        }
    for name, x in graph.states.items():
        inputs[name] = {"dtype": _dtype(x), "shape": ["batch", *x.shape[1:]]}
    outputs = [graph.output_name, *graph.state_outputs]
    return {"file": f"{graph.name}.onnx", "inputs": inputs, "outputs": outputs}


def _open(description: dict[str, Any], folder: Path) -> Exported:
    """Open the graphs of a folder in onnxruntime."""
    return Exported(
        description, Onnx({name: folder / f"{name}.onnx" for name in description["graphs"]})
    )


def _quantize_graphs(
    codec: Codec, description: dict[str, Any], folder: Path, audio: Audio | None
) -> Parity:
    """Quantize the graphs of a folder to 8 bits and return how far they then are from torch."""
    for name in description["graphs"]:
        file, small = folder / f"{name}.onnx", folder / f"{name}.int8.onnx"
        quantize(file, small)
        small.replace(file)
        data_of(file).unlink(missing_ok=True)
    return compare(codec, _open(description, folder), audio, rounding=False)
