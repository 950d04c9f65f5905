"""Snapshots of streams as bytes: a checksum, then arrays as safetensors and the rest as JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from audiotok._platform.errors import InputError
from audiotok.runtime.base import RunnableCodec
from audiotok.runtime.session import CodingSession

if TYPE_CHECKING:
    from audiotok.runtime.windows import Windowed

Dump = tuple[Any, dict[str, np.ndarray]]  # JSON of a session, and the arrays it names

MAGIC = b"audiotok stream 2\n"
EARLIER = b"audiotok stream 1\n"  # transposed convolutions had another state
_DIGEST = 32  # bytes of SHA-256


def pack(
    codec: RunnableCodec[Any],
    options: dict[str, Any],
    sessions: Sequence[CodingSession[Any] | Windowed[Any]],
) -> bytes:
    """Return the options and sessions of a stream as bytes.

    Args:
        codec: codec of the sessions.
        options: options of the stream, as JSON.
        sessions: sessions of the stream.
    """
    arrays: dict[str, np.ndarray] = {}
    content = {
        "codec": codec.name,
        "fingerprint": _weights(codec),
        "executor": codec.executor.kind,
        "about": options,
        "passages": [session.dump(arrays, f"p{i}") for i, session in enumerate(sessions)],
    }
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    arrays["said"] = np.frombuffer(json.dumps(content).encode(), np.uint8)
    body = save(arrays)
    return MAGIC + hashlib.sha256(body).digest() + body


def unpack(codec: RunnableCodec[Any], data: bytes) -> tuple[dict[str, Any], list[Dump]]:
    """Return the options of a packed stream, and its sessions for `fill`.

    Args:
        codec: codec of the stream.
        data: result of `pack`.

    Raises:
        ValueError: the data are damaged, or of another codec, other weights or an earlier version.
    """
    begin = len(MAGIC) + _DIGEST
    body = data[begin:]
    earlier = data.startswith(EARLIER)
    if earlier and _has_transposed(codec):
        raise InputError(
            "a snapshot of a stream of an earlier audiotok, whose state is another: go on with that"
            " version, or begin a new stream"
        )
    if data[: len(MAGIC)] != (EARLIER if earlier else MAGIC):
        raise InputError("not a snapshot of a stream")
    if hashlib.sha256(body).digest() != data[len(MAGIC) : begin]:
        raise InputError("a damaged snapshot of a stream: its checksum does not fit")
    try:
        arrays = load(body)
    except SafetensorError as error:
        raise InputError(f"a damaged snapshot of a stream: {error}") from None
    content = json.loads(arrays.pop("said").tobytes())
    if (content["codec"], content["fingerprint"]) != (codec.name, _weights(codec)):
        raise InputError(
            f"a stream of codec {content['codec']!r} with weights {content['fingerprint']}, not of"
            f" {codec.name!r} with {_weights(codec)}"
        )
    kind = content.get("executor", "torch")  # which older snapshots do not say
    if kind != codec.executor.kind:
        raise InputError(
            f"a stream whose state is of {kind}, and {codec.name!r} is run here by "
            f"{codec.executor.kind}: load the codec in the backend that the stream ran in"
        )
    return content["about"], [(session, arrays) for session in content["passages"]]


def _has_transposed(codec: RunnableCodec[Any]) -> bool:
    """Return whether a network has layers whose state changed; exported graphs keep theirs."""
    modules = getattr(codec, "modules", tuple)()  # by name: graphs run without torch
    return any(type(module).__name__ == "TransposedConv" for module in modules)


def _weights(codec: RunnableCodec[Any]) -> str:
    """Return both fingerprints: a stream may be in the middle of encoding and of decoding."""
    return f"{codec.fingerprint} {codec.decoder_fingerprint}"


def fill(sessions: Sequence[CodingSession[Any] | Windowed[Any]], dumps: Sequence[Dump]) -> None:
    """Restore new sessions from those that were packed."""
    for session, (content, arrays) in zip(sessions, dumps, strict=True):
        session.restore(content, arrays)
