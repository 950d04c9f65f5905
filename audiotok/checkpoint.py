"""A codec in one file: safetensors weights with the config inside; `load` reads one by name."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes

from audiotok.codecs.base import Codec
from audiotok.registry import find, names

WEIGHTS = Path(__file__).parent / "codecs" / "weights"
FORMAT = "audiotok 1"


class CheckpointError(ValueError):
    """A file that is no checkpoint of ours, or weights that are not there."""


def save(codec: Codec, path: str | Path, *, card: dict[str, Any] | None = None) -> None:
    """Write weights in half precision, with what it takes to build the codec again.

    Args:
        codec: any codec.
        path: a .safetensors file; written under a temporary name, then renamed.
        card: facts about the training, kept in the file.
    """
    path = Path(path)
    about = {
        "format": FORMAT,
        "codec": codec.name,
        "config": json.dumps(dataclasses.asdict(codec.config)),
        "card": json.dumps(card or {}),
    }
    state = {
        key: (value.half() if value.is_floating_point() else value).cpu().contiguous()
        for key, value in codec.state_dict().items()
    }
    part = path.with_name(f".{path.name}.part")
    try:
        # Not save_file, whose files only their owner may read.
        part.write_bytes(to_bytes(state, metadata=about))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def read_card(path: str | Path) -> dict[str, Any]:
    """What `save` wrote beside the weights: codec, config and card.

    Raises:
        CheckpointError: not a file that `save` wrote.
    """
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a safetensors checkpoint ({error})") from None
    written = about.get("format", "")
    if not written.startswith("audiotok"):
        raise CheckpointError(f"{path}: safetensors, but not written by audiotok (no config in it)")
    if written != FORMAT:
        raise CheckpointError(f"{path}: written as {written!r}, not {FORMAT!r}: update audiotok")
    try:
        return {
            "codec": about["codec"],
            "config": json.loads(about["config"]),
            "card": json.loads(about["card"]),
        }
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged; its config cannot be read ({error})") from None


def _line(error: Exception) -> str:
    """torch's messages run over many lines."""
    return " ".join(str(error).split())[:300]


def weights_of(name: str) -> Path | None:
    """The weights file that ships for codec `name`, or None."""
    path = WEIGHTS / f"{name}.safetensors"
    return path if path.is_file() else None


def describe(name_or_path: str | Path) -> dict[str, Any]:
    """What a codec is, as plain data: name, rates, codebooks, size, weights.

    `name` to `parameters` need no weights; `weights` is the path of those that are here, and
    `fingerprint` and `card` are theirs.
    """
    path = Path(name_or_path) if Path(name_or_path).suffix == ".safetensors" else None
    path = path or weights_of(str(name_or_path))
    if path:
        codec = load(path)
    else:
        with torch.device("meta"):  # sizes alone: nothing is drawn, no memory taken
            codec = find("codecs", str(name_or_path))()
    return {
        "name": codec.name,
        "sample_rate": codec.sample_rate,
        "frame_size": codec.frame_size,
        "frame_rate": round(float(codec.frame_rate), 4),
        "channels": codec.channels,
        "codebooks": codec.codebooks,
        "sizes": list(codec.sizes),
        "kbps": round(codec.kbps, 4),
        "parameters": codec.parameters_total,
        "causal": codec.causal,
        "latency_ms": round(1000 * codec.latency, 2) if codec.causal else None,
        "weights": str(path) if path else None,
        "fingerprint": codec.fingerprint if path else None,
        "card": read_card(path)["card"] if path else None,
    }


def load(name_or_path: str | Path = "speech", *, device: str | torch.device = "cpu") -> Codec:
    """A codec ready to use, by name (`"speech"`) or by the path of a checkpoint.

    Raises:
        CheckpointError: unknown name, no weights, or a file that does not fit; says what to do.
    """
    path = Path(name_or_path)
    # A name wins over a file of that name: "./speech" is the file.
    if name_or_path in names("codecs") or (path.suffix != ".safetensors" and not path.exists()):
        find("codecs", str(name_or_path))  # where it is no codec's name, this says so
        shipped = weights_of(str(name_or_path))
        if shipped is None:
            raise CheckpointError(
                f"codec {name_or_path!r} has no weights here; give the path of a checkpoint"
            )
        path = shipped
    about = read_card(path)
    try:
        kind = find("codecs", about["codec"])
        codec = kind(kind.config_type(**about["config"]))
    except (TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: no codec here is built so: {_line(error)}") from None
    with safe_open(path, "pt") as file:
        state = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
    try:
        codec.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path}: weights do not fit codec {codec.name!r}: {_line(error)}"
        ) from None
    return codec.eval().requires_grad_(False).to(device)
