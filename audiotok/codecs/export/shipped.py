"""Graphs that ship beside the weights of a codec, so that it runs without torch from the start.

NAME.json           as codec.json of an exported folder
NAME.GRAPH.onnx     a graph of steps, whose large weights are those in NAME.safetensors: ONNX reads
                    them from where they lie in that file ("external data"), casts and transposes
                    them once, when the graph is loaded
"""

from __future__ import annotations

import hashlib
import json
import struct
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from audiotok._platform.atomic import atomic_file
from audiotok._platform.optional import optional_import
from audiotok.codecs.export.folder import described
from audiotok.codecs.export.graphs import stepwise, write
from audiotok.codecs.export.parity import Parity, compare
from audiotok.codecs.models.base import Codec
from audiotok.runtime.backends.onnx import Onnx
from audiotok.runtime.exported import Exported, ExportError

LARGE = 4096  # bytes from which a weight is read from the checkpoint; others stay in the graph
KINDS = {"F16": "<f2", "F32": "<f4"}


def ship(codec: Codec, weights: Path) -> Parity:
    """Write the graphs of a causal codec beside the checkpoint that holds its weights.

    Args:
        codec: the codec, with the weights of the checkpoint.
        weights: the checkpoint, NAME.safetensors.

    Returns:
        The comparison with torch.

    Raises:
        ExportError: the codec cannot be written as ONNX, or differs from torch.
        ImportError: onnx or onnxruntime is not installed.
    """
    onnx: Any = optional_import("onnx", extra="export")
    graphs, states = stepwise(codec, codec.codebooks, rings=True)
    description = described(codec, graphs, states, codebooks=codec.codebooks)
    stem = weights.with_suffix("")
    stored = _Stored(weights)
    for graph in graphs:
        file = stem.with_name(f"{stem.name}.{graph.name}.onnx")
        with tempfile.TemporaryDirectory() as folder:
            whole = Path(folder) / file.name
            write(graph, whole)
            model = onnx.load(whole)
        stored.share(onnx, model)
        with atomic_file(file) as part:
            part.write_bytes(model.SerializeToString(deterministic=True))
        description["graphs"][graph.name]["file"] = file.name
    files = {name: weights.parent / graph["file"] for name, graph in description["graphs"].items()}
    parity = compare(codec, Exported(description, Onnx(files)))
    if not parity.holds:
        raise ExportError(f"{codec.name} in ONNX is not what it is in torch: {parity}")
    description["parity"] = parity.to_json()
    for graph in description["graphs"].values():
        content = (weights.parent / graph["file"]).read_bytes()
        graph |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    description["embeddings"] = stored.names(codec.codebook_embeddings())
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    description["data"] = {"file": weights.name, "sha256": digest}
    with atomic_file(stem.with_suffix(".json")) as part:
        part.write_text(json.dumps(description, indent=1) + "\n", "utf-8")
    return parity


@dataclass(frozen=True)
class _Tensor:
    """Tensor in a file: its position there, and how a weight is computed from it."""

    name: str
    offset: int
    length: int
    shape: tuple[int, ...]
    half: bool  # stored in float16
    turned: bool  # the weight is the transposed tensor


class _Stored:
    """Tensors of a safetensors file, found by the values that they have as float32."""

    def __init__(self, weights: Path) -> None:
        content = weights.read_bytes()
        (size,) = struct.unpack("<Q", content[:8])
        self.name = weights.name
        self._by_value: dict[Any, _Tensor] = {}
        for name, facts in json.loads(content[8 : 8 + size]).items():
            kind = KINDS.get(facts.get("dtype", ""))
            if kind is None:
                continue
            begin, end = (8 + size + at for at in facts["data_offsets"])
            values = np.frombuffer(content[begin:end], kind).reshape(facts["shape"])
            stored = _Tensor(name, begin, end - begin, values.shape, kind == "<f2", turned=False)
            if values.ndim == 2:
                self._by_value[_key(values.T)] = replace(stored, turned=True)
            self._by_value[_key(values)] = stored

    def names(self, tables: Sequence[Tensor]) -> list[str]:
        """Return the names of the tensors that the tables of the codebooks are; none if not all."""
        tensors = [self._by_value.get(_key(table.numpy())) for table in tables]
        return [stored.name for stored in tensors if stored] if all(tensors) else []

    def share(self, onnx: Any, model: Any) -> None:
        """Replace the large weights of a model by references to the file, in place."""
        kept, nodes = [], []
        for weight in model.graph.initializer:
            values = onnx.numpy_helper.to_array(weight)
            large = values.dtype == np.float32 and values.nbytes >= LARGE
            stored = self._by_value.get(_key(values)) if large else None
            if stored is None:
                kept.append(weight)
                continue
            kept.append(self._reference(onnx, weight.name, stored))
            nodes += _nodes_of(onnx, weight.name, stored)
        del model.graph.initializer[:]
        model.graph.initializer.extend(kept)
        for at, node in enumerate(nodes):
            model.graph.node.insert(at, node)

    def _reference(self, onnx: Any, name: str, stored: _Tensor) -> Any:
        """Return an initializer whose values lie in the file."""
        kind = onnx.TensorProto.FLOAT16 if stored.half else onnx.TensorProto.FLOAT
        changes = stored.half or stored.turned
        tensor = onnx.TensorProto(name=f"{name}.stored" if changes else name, data_type=kind)
        tensor.dims.extend(stored.shape)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        facts = {"location": self.name, "offset": stored.offset, "length": stored.length}
        for key, value in facts.items():
            tensor.external_data.add(key=key, value=str(value))
        return tensor


def _nodes_of(onnx: Any, name: str, stored: _Tensor) -> list[Any]:
    """Return the nodes that make a weight of a stored tensor."""
    nodes, now = [], f"{name}.stored"
    make = onnx.helper.make_node
    if stored.half:
        to = f"{name}.cast" if stored.turned else name
        nodes.append(make("Cast", [now], [to], to=onnx.TensorProto.FLOAT))
        now = to
    if stored.turned:
        nodes.append(make("Transpose", [now], [name], perm=[1, 0]))
    return nodes


def _key(values: np.ndarray) -> tuple[tuple[int, ...], bytes]:
    """Return a key of the shape of values and of what they are as float32."""
    content = np.ascontiguousarray(values, np.float32)
    return values.shape, hashlib.blake2b(content.tobytes()).digest()
