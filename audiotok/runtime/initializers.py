"""Reader of the weights in an ONNX file that needs only numpy (the onnx package writes exports).

An ONNX file is a protocol buffer: a sequence of fields, each with a number, a type and a content.
This reader knows only the fields on the path to names and values of tensors (onnx.proto3 of ONNX
1.23):

    ModelProto.graph 7 -> GraphProto.initializer 5 -> TensorProto: dims 1, data_type 2,
    float_data 4, name 8, raw_data 9, double_data 10
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from audiotok._platform.errors import InputError

_GRAPH, _INITIALIZER = 7, 5
_TYPE, _FLOATS, _NAME, _RAW, _DOUBLES = 2, 4, 8, 9, 10
_KINDS = {1: "<f4", 10: "<f2", 11: "<f8"}  # numpy types of data_type; 16 is bfloat16
_BFLOAT16 = 16


def not_finite(model: bytes) -> str | None:
    """Return the name of the first weight in an ONNX file that holds NaN or infinity, or None.

    A tensor of one value that is infinity is a constant of the program (to mask attention) and no
    weight.

    Raises:
        ValueError: this is no ONNX file, or it is cut off.
    """
    for kind, graph in _fields(memoryview(model)):
        if kind != _GRAPH or isinstance(graph, int):
            continue
        for field, tensor in _fields(graph):
            if field != _INITIALIZER or isinstance(tensor, int):
                continue
            name, values = _tensor(tensor)
            with np.errstate(over="ignore", invalid="ignore"):
                if np.isfinite(values.sum(dtype=np.float64 if values.itemsize < 8 else None)):
                    continue
            if np.isnan(values).any() or (values.size > 1 and np.isinf(values).any()):
                return name
    return None


def _tensor(content: memoryview) -> tuple[str, np.ndarray]:
    """Return name and values of a TensorProto; no values unless it is of floating point."""
    facts = dict(_fields(content))
    kind, name, raw = facts.get(_TYPE, 0), facts.get(_NAME, b""), facts.get(_RAW)
    none = np.zeros(0, np.float32)
    if isinstance(name, int) or not isinstance(kind, int):
        raise InputError("a tensor without a name or a type")
    label = bytes(name).decode("utf-8", "replace")
    try:
        if kind == _BFLOAT16 and isinstance(raw, memoryview):
            return label, (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4")
        if kind in _KINDS and isinstance(raw, memoryview):
            return label, np.frombuffer(raw, _KINDS[kind])
        for field, dtype in ((_FLOATS, "<f4"), (_DOUBLES, "<f8")):
            if isinstance(packed := facts.get(field), memoryview):
                return label, np.frombuffer(packed, dtype)
    except ValueError as error:
        raise InputError(f"tensor {label!r}: {error}") from None
    return label, none


def _fields(content: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Yield the numbers and contents of the fields of a message."""
    at = 0
    while at < len(content):
        key, at = _varint(content, at)
        field, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(content, at)
            yield field, value
            continue
        size = {1: 8, 5: 4}.get(wire)
        if wire == 2:
            size, at = _varint(content, at)
        if size is None or at + size > len(content):
            raise InputError("not an ONNX file, or cut off")
        yield field, content[at : at + size]
        at += size


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    """Return a number stored as 7 bits per byte, and the position after it."""
    value = shift = 0
    while at < len(content) and shift < 64:
        byte = content[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise InputError("not an ONNX file, or cut off")
