"""A codec as a folder of ONNX files and codec.json, checked before it is there under its name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from audiotok._platform.atomic import complete_folder
from audiotok._platform.optional import needed, version
from audiotok.audio.audio import Audio
from audiotok.codecs.export.graphs import OPSET, Graph, States, stepwise, whole, write
from audiotok.codecs.export.int8 import quantize
from audiotok.codecs.export.parity import Parity, compare
from audiotok.codecs.models.base import Codec
from audiotok.nn.layers.segments import Cut
from audiotok.runtime.backends.onnx import Onnx
from audiotok.runtime.exported import (
    ABOUT,
    FORMAT,
    Exported,
    ExportError,
    is_exported,
    plan_to_json,
)
from audiotok.runtime.signature import Plan


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
    """Write a codec as ONNX: `encoder` and `decoder` of whole recordings, dynamic in length and
    batch, and what codec.json says of them.

    Args:
        codec: on any device.
        out: a folder that is not there yet.
        codebooks: export the first so many (all if None): searching fewer is cheaper.
        steps: also graphs of any number of frames with states in and out.
        rings: steps read what attention sees in rings that the caller writes into, which many
            signals side by side do in 0.6 of the time (`runtime.signature.Plan`).
        int8: store large weights as 8-bit integers; codes then differ, by how much is measured.
        audio: to compare on; something like speech if None.
        force: replace an exported codec that is there.

    Returns:
        What codec.json says.

    Raises:
        ExportError: it cannot be written as ONNX, or does other than torch does; says by how much.
        ImportError: onnx, onnxscript or onnxruntime is not installed; says how to.
    """
    for library in ("onnx", "onnxscript", "onnxruntime"):
        needed(library, extra="export")
    out = Path(out)
    if out.exists() and not (force and is_exported(out)):
        way = "--force overwrites it" if is_exported(out) else "name a folder that is not there"
        raise ExportError(f"{out}: exists already; {way}")
    if not codec.exact_chunks:
        raise ExportError(f"{codec.name} cannot be cut into pieces exactly, so not exported")
    if any(isinstance(layer, Cut) for layer in codec.modules()):
        raise ExportError(
            f"{codec.name} codes overlapping segments apart, the last one shorter (as EnCodec 48"
            " kHz does): no graph of fixed operations does that; it runs in torch"
        )
    with complete_folder(out) as folder:
        about = _written(codec, folder, codebooks=codec.kept(codebooks), steps=steps, rings=rings)
        parity = compare(codec, _opened(about, folder), audio)
        if not parity.holds:
            raise ExportError(f"{codec.name} in ONNX is not what it is in torch: {parity}")
        about["parity"] = parity.to_json()
        if int8:
            about["int8"] = _shrunk(codec, about, folder, audio).to_json()
        for graph in about["graphs"].values():
            file = folder / graph["file"]
            graph["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
            graph["bytes"] = file.stat().st_size
        (folder / ABOUT).write_text(json.dumps(about, indent=1) + "\n", "utf-8")
    return about


def _written(
    codec: Codec, folder: Path, *, codebooks: int, steps: bool, rings: bool
) -> dict[str, Any]:
    """The graphs in a folder, and what is to be said of them but for hashes."""
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
    """What codec.json says of a codec and its graphs, but for hashes and how they compare; states
    are those of `stepwise`, if there are steps."""
    plan = Plan(
        frame_size=codec.frame_size,
        channels=codec.channels,
        codebooks=codebooks,
        lead=codec.lead,
        fills_up=codec.fills_up,
        first_frames=codec.first_frames,
        block=codec.block,
        steps=bool(states),
        rings=tuple(name for mine in states.values() for name in mine.rings),
        **{
            way: {name: (_dtype(x), tuple(x.shape[1:])) for name, x in mine.named.items()}
            for way, mine in states.items()
        },
    )
    return {
        "format": FORMAT,
        "codec": codec.name,
        "fingerprint": codec.fingerprint,
        "decoder_fingerprint": codec.decoder_fingerprint,
        "former_fingerprints": list(codec.former_fingerprints),
        "sample_rate": codec.sample_rate,
        "frame_size": codec.frame_size,
        "frame_rate": float(codec.frame_rate),
        "codebooks": codebooks,
        "sizes": list(codec.sizes[:codebooks]),
        "latency_ms": 1000 * codec.latency if codec.causal else None,
        "plan": plan_to_json(plan),
        "opset": OPSET,
        "made_with": [version(name) for name in ("audiotok", "torch", "onnx", "onnxruntime")],
        "graphs": {graph.name: _graph(graph) for graph in graphs},
        "parity": None,
        "int8": None,
    }


def _dtype(x: Any) -> str:
    return str(x.dtype).removeprefix("torch.")


def _graph(graph: Graph) -> dict[str, Any]:
    """Names, types and shapes of a graph: what is free has a name ("batch", "samples")."""
    free = {"audio": "samples", "codes": "frames"}
    kinds = {"audio": "float32", "codes": "int64"}
    inputs: dict[str, Any] = {}
    if graph.example is not None:
        shape = ["batch", graph.example.shape[1], free[graph.takes]]
        inputs[graph.takes] = {"dtype": kinds[graph.takes], "shape": shape, "least": graph.least}
    for name, x in graph.states.items():
        inputs[name] = {"dtype": _dtype(x), "shape": ["batch", *x.shape[1:]]}
    outputs = [graph.gives, *graph.handed]
    return {"file": f"{graph.name}.onnx", "inputs": inputs, "outputs": outputs}


def _opened(about: dict[str, Any], folder: Path) -> Exported:
    return Exported(about, Onnx({name: folder / f"{name}.onnx" for name in about["graphs"]}))


def _shrunk(codec: Codec, about: dict[str, Any], folder: Path, audio: Audio | None) -> Parity:
    """The graphs in 8 bits, and what that does."""
    for name in about["graphs"]:
        file, small = folder / f"{name}.onnx", folder / f"{name}.int8.onnx"
        quantize(file, small)
        small.replace(file)
    return compare(codec, _opened(about, folder), audio, rounding=False)
