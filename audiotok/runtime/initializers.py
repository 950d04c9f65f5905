"""The weights in an ONNX file, found with numpy alone: the onnx package is for writing exports.

An ONNX file is a protocol buffer: fields, each a number, a kind and a content. Of its hundreds this
knows the ones on the way to a tensor's name and values (onnx.proto3 of ONNX 1.23):

    ModelProto.graph 7 -> GraphProto.initializer 5 -> TensorProto: dims 1, data_type 2,
    float_data 4, name 8, raw_data 9, double_data 10
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

_GRAPH, _INITIALIZER = 7, 5
_TYPE, _FLOATS, _NAME, _RAW, _DOUBLES = 2, 4, 8, 9, 10
_KINDS = {1: "<f4", 10: "<f2", 11: "<f8"}  # of data_type; 16 is bfloat16
_BFLOAT16 = 16


def not_finite(model: bytes) -> str | None:
    """The first weight in an ONNX file that holds NaN or infinity, by name; else None.

    Infinity alone, in a tensor of one value, is a constant of the program (what masks attention)
    and no weight.

    Raises:
        ValueError: it is no ONNX file, or cut off.
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
    """Name and values of a TensorProto; no values where it is not of numbers with a point."""
    facts = dict(_fields(content))
    kind, name, raw = facts.get(_TYPE, 0), facts.get(_NAME, b""), facts.get(_RAW)
    none = np.zeros(0, np.float32)
    if isinstance(name, int) or not isinstance(kind, int):
        raise ValueError("a tensor without a name or a type")
    said = bytes(name).decode("utf-8", "replace")
    try:
        if kind == _BFLOAT16 and isinstance(raw, memoryview):
            return said, (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4")
        if kind in _KINDS and isinstance(raw, memoryview):
            return said, np.frombuffer(raw, _KINDS[kind])
        for field, dtype in ((_FLOATS, "<f4"), (_DOUBLES, "<f8")):
            if isinstance(packed := facts.get(field), memoryview):
                return said, np.frombuffer(packed, dtype)
    except ValueError as error:
        raise ValueError(f"tensor {said!r}: {error}") from None
    return said, none


def _fields(content: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Numbers and contents of the fields of a message."""
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
            raise ValueError("not an ONNX file, or cut off")
        yield field, content[at : at + size]
        at += size


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, and where the next field begins."""
    value = shift = 0
    while at < len(content) and shift < 64:
        byte = content[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise ValueError("not an ONNX file, or cut off")
