"""A stream's state as bytes: tensors as safetensors, the rest as JSON, a checksum before both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from audiotok.runtime.base import RunnableCodec
from audiotok.runtime.session import Passage

if TYPE_CHECKING:
    from audiotok.runtime.windows import Windowed

Kept = tuple[Any, dict[str, Tensor]]

MAGIC = b"audiotok stream 1\n"
_DIGEST = 32  # bytes of SHA-256


def pack(
    codec: RunnableCodec, about: dict[str, Any], passages: Sequence[Passage | Windowed]
) -> bytes:
    """Passages of a codec, and what its owner says of them, as bytes."""
    tensors: dict[str, Tensor] = {}
    said = {
        "codec": codec.name,
        "fingerprint": _weights(codec),
        "about": about,
        "passages": [passage.kept(tensors, f"p{i}") for i, passage in enumerate(passages)],
    }
    tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    tensors["said"] = torch.frombuffer(bytearray(json.dumps(said).encode()), dtype=torch.uint8)
    body = save(tensors)
    return MAGIC + hashlib.sha256(body).digest() + body


def unpack(codec: RunnableCodec, data: bytes) -> tuple[dict[str, Any], list[Kept]]:
    """What `pack` packed: what its owner said, and for `fill` the rest.

    Raises:
        ValueError: damaged, or of another codec or other weights.
    """
    begin = len(MAGIC) + _DIGEST
    body = data[begin:]
    if data[: len(MAGIC)] != MAGIC:
        raise ValueError("not a snapshot of a stream")
    if hashlib.sha256(body).digest() != data[len(MAGIC) : begin]:
        raise ValueError("a damaged snapshot of a stream: its checksum does not fit")
    try:
        tensors = load(body)
    except SafetensorError as error:
        raise ValueError(f"a damaged snapshot of a stream: {error}") from None
    said = json.loads(tensors.pop("said").numpy().tobytes())
    if (said["codec"], said["fingerprint"]) != (codec.name, _weights(codec)):
        raise ValueError(
            f"a stream of codec {said['codec']!r} with weights {said['fingerprint']}, not of"
            f" {codec.name!r} with {_weights(codec)}"
        )
    tensors = {name: tensor.to(codec.device) for name, tensor in tensors.items()}
    return said["about"], [(passage, tensors) for passage in said["passages"]]


def _weights(codec: RunnableCodec) -> str:
    """Name all weights: a stream may be in the middle of encoding and of decoding."""
    return f"{codec.fingerprint} {codec.decoder_fingerprint}"


def fill(passages: Sequence[Passage | Windowed], kept: Sequence[Kept]) -> None:
    """Put passages, new ones, where those that were packed were."""
    for passage, (said, tensors) in zip(passages, kept, strict=True):
        passage.regain(said, tensors)
