"""Snapshots of streams as bytes: a checksum, then tensors as safetensors and the rest as JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from audiotok._platform.errors import InputError
from audiotok.runtime.base import RunnableCodec
from audiotok.runtime.session import CodingSession

if TYPE_CHECKING:
    from audiotok.runtime.windows import Windowed

Dump = tuple[Any, dict[str, Tensor]]  # JSON of a session, and the tensors it names

MAGIC = b"audiotok stream 1\n"
_DIGEST = 32  # bytes of SHA-256


def pack(
    codec: RunnableCodec, options: dict[str, Any], sessions: Sequence[CodingSession | Windowed]
) -> bytes:
    """Return the options and sessions of a stream as bytes.

    Args:
        codec: codec of the sessions.
        options: options of the stream, as JSON.
        sessions: sessions of the stream.
    """
    tensors: dict[str, Tensor] = {}
    content = {
        "codec": codec.name,
        "fingerprint": _weights(codec),
        "about": options,
        "passages": [session.dump(tensors, f"p{i}") for i, session in enumerate(sessions)],
    }
    tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    text = bytearray(json.dumps(content).encode())
    tensors["said"] = torch.frombuffer(text, dtype=torch.uint8)
    body = save(tensors)
    return MAGIC + hashlib.sha256(body).digest() + body


def unpack(codec: RunnableCodec, data: bytes) -> tuple[dict[str, Any], list[Dump]]:
    """Return the options of a packed stream, and its sessions for `fill`.

    Args:
        codec: codec of the stream.
        data: result of `pack`.

    Raises:
        ValueError: the data are damaged, or of another codec or other weights.
    """
    begin = len(MAGIC) + _DIGEST
    body = data[begin:]
    if data[: len(MAGIC)] != MAGIC:
        raise InputError("not a snapshot of a stream")
    if hashlib.sha256(body).digest() != data[len(MAGIC) : begin]:
        raise InputError("a damaged snapshot of a stream: its checksum does not fit")
    try:
        tensors = load(body)
    except SafetensorError as error:
        raise InputError(f"a damaged snapshot of a stream: {error}") from None
    content = json.loads(tensors.pop("said").numpy().tobytes())
    if (content["codec"], content["fingerprint"]) != (codec.name, _weights(codec)):
        raise InputError(
            f"a stream of codec {content['codec']!r} with weights {content['fingerprint']}, not of"
            f" {codec.name!r} with {_weights(codec)}"
        )
    tensors = {name: tensor.to(codec.device) for name, tensor in tensors.items()}
    return content["about"], [(session, tensors) for session in content["passages"]]


def _weights(codec: RunnableCodec) -> str:
    """Return both fingerprints: a stream may be in the middle of encoding and of decoding."""
    return f"{codec.fingerprint} {codec.decoder_fingerprint}"


def fill(sessions: Sequence[CodingSession | Windowed], dumps: Sequence[Dump]) -> None:
    """Restore new sessions from those that were packed."""
    for session, (content, tensors) in zip(sessions, dumps, strict=True):
        session.restore(content, tensors)
