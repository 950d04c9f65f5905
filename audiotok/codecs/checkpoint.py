"""Checkpoints: a codec in one safetensors file with its config; `load` also takes a name."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from audiotok._platform import jsonfile
from audiotok._platform.registry import find, find_preset, has_preset, parts
from audiotok.codecs import external
from audiotok.codecs.catalogue import CheckpointError as CheckpointError
from audiotok.codecs.catalogue import hub_ids, local_weights, looks_like_id, name_at_hub
from audiotok.codecs.decoders.base import Decoder
from audiotok.codecs.models.base import Codec
from audiotok.codecs.taxonomy import taxonomy_of
from audiotok.data.features.base import TeacherError
from audiotok.nn.device import usable_device
from audiotok.nn.finite import NotFiniteError, check_finite, not_finite
from audiotok.nn.int8 import from_8_bits, rows_in_8_bits
from audiotok.nn.pretrained import hub, state_dicts
from audiotok.nn.pretrained import reader as checkpoint_reader
from audiotok.nn.pretrained.hub import FOLDER
from audiotok.nn.pretrained.state_dicts import StateDictError, Weights
from audiotok.nn.skip_init import SkipInit

log = logging.getLogger("audiotok")

FORMAT = "audiotok 1"
SCALE = ":scale"  # end of the name of the scales of rows
LARGE = 1 << 16  # values in a matrix from which on 8 bits are worth it


def save(
    codec: Codec,
    path: str | Path,
    *,
    card: dict[str, Any] | None = None,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write the weights of a codec to a file, with the config to build it again.

    Args:
        codec: any codec.
        path: a .safetensors file; written under a temporary name, then renamed.
        card: facts about the training, stored in the file; added to those of the file that the
            codec was loaded from, or in their place.
        dtype: type of the weights in the file. Half precision is for weights of one's own, saved
            before they are used; published weights need float32 to give the codes that they are
            known for. With `torch.int8` large matrices are integers with a scale for each row,
            and all else is of half precision.

    Raises:
        CheckpointError: a weight is NaN or infinite, or becomes so in `dtype`, or the codec is
            made of code alone; nothing is written.
    """
    path = Path(path)
    if not hasattr(codec, "config"):
        raise CheckpointError(f"{path}: not written: {codec.name} has no config to build it from")
    metadata = {
        "format": FORMAT,
        "codec": type(codec).name,
        "name": codec.name,
        "family": "decoders" if isinstance(codec, Decoder) else "codecs",
        "config": json.dumps(dataclasses.asdict(codec.config)),
        "card": json.dumps({**codec.card, **(card or {})}),
        "former_fingerprints": json.dumps(codec.former_fingerprints),
    }
    state: Weights = {}
    for key, value in codec.own_state().items():
        state |= _stored(key, value.cpu().contiguous(), dtype)
    bad = not_finite(state)
    if bad:
        raise CheckpointError(f"{path}: not written: {bad[0]!r} holds {bad[1]} in {dtype}")
    part = path.with_name(f".{path.name}.part")
    try:
        # Not safetensors' save_file: only the owner may read its files.
        part.write_bytes(to_bytes(state, metadata=metadata))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _stored(key: str, value: Tensor, dtype: torch.dtype) -> Weights:
    """Return a tensor as it is stored, by the names in the file."""
    if not value.is_floating_point():
        return {key: value}
    if dtype != torch.int8:
        return {key: value.to(dtype)}
    if value.ndim < 2 or value.numel() < LARGE:
        return {key: value.half()}
    integers, scale = rows_in_8_bits(value)
    return {key: integers, f"{key}{SCALE}": scale}


def _read_state(path: Path) -> Weights:
    """Return the weights in a file of `save`, in the precision that they are stored in."""
    with safe_open(path, "pt") as file:
        stored = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    scales = {key: stored.pop(f"{key}{SCALE}") for key in [*stored] if f"{key}{SCALE}" in stored}
    return stored | {key: from_8_bits(stored[key], scale) for key, scale in scales.items()}


def read_card(path: str | Path) -> dict[str, Any]:
    """Return what `save` stored beside the weights: codec and family, name, config and card.

    Raises:
        CheckpointError: not a file that `save` wrote.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a safetensors checkpoint ({error})") from None
    written = metadata.get("format", "")
    if not written.startswith("audiotok"):
        raise CheckpointError(f"{path}: safetensors, but not written by audiotok (no config in it)")
    if written != FORMAT:
        raise CheckpointError(f"{path}: written as {written!r}, not {FORMAT!r}: update audiotok")
    try:
        return {
            "codec": metadata["codec"],
            "family": metadata.get("family", "codecs"),  # older files say nothing of it
            "name": metadata.get("name", metadata["codec"]),  # files from before presets had names
            "config": jsonfile.parse(metadata["config"], "config"),
            "card": jsonfile.parse(metadata["card"], "card"),
            "former_fingerprints": jsonfile.parse(
                metadata.get("former_fingerprints", "[]"), "former_fingerprints"
            ),
        }
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged; its config cannot be read ({error})") from None


def file_of(path: Path) -> Path:
    """Return the file of weights in a folder that `codecs.transformers` wrote, else the path."""
    inside = path / FOLDER[0]
    return inside if path.is_dir() and is_ours(inside) else path


def is_ours(path: Path) -> bool:
    """Return whether `save` wrote a file, in this or a later version."""
    try:
        with safe_open(path, "pt") as file:
            return (file.metadata() or {}).get("format", "").startswith("audiotok")
    except (SafetensorError, OSError):
        return False


def weights_of(name: str) -> Path | None:
    """Return the path of the local weights of codec `name`, shipped or in the cache, or None."""
    kind = find_preset("codecs", name)[0]
    file = kind.shared_weights or name
    return local_weights(file, kind.sources.get(name), kind.weights_folder)


def is_path(name_or_path: str | Path) -> bool:
    """Return whether this is a checkpoint's path and not a codec's name.

    A name takes precedence over a file of that name: "./speech" is the file, as is any `Path` that
    exists. The id of a known Hugging Face repository (`hub_ids`) is a name unless it is a folder.
    """
    path = Path(name_or_path)
    if has_preset("codecs", str(name_or_path)) or name_at_hub(name_or_path):
        return isinstance(name_or_path, Path) and path.exists()
    written = isinstance(name_or_path, Path) or os.sep in name_or_path
    return written or path.suffix in hub.SUFFIXES or path.exists()


def describe(name_or_path: str | Path, *, read: bool = True) -> dict[str, Any]:
    """Return a codec's properties as plain data: name, rates, codebooks, size, weights.

    `name` to `published` need no weights; `kind` is "codes" or "latents", and `width` the features
    of those; `parameters` are those that gradients learn, as authors count them, `entries` the
    values in codebooks, and `parameters_with_codebooks` both; a codec's name has the fields of
    `Taxonomy`, too. `weights` is the path of the local weights, and `fingerprint`,
    `decoder_fingerprint` and `card` are theirs.

    Args:
        name_or_path: as for `load`; nothing is downloaded.
        read: whether to read local weights; if not, a codec's name has no fingerprint and no card.
    """
    by_path = is_path(name_or_path)
    name = name_at_hub(name_or_path) or str(name_or_path)
    path = file_of(Path(name_or_path)) if by_path else weights_of(name)
    read = path is not None and (read or by_path)
    own = not by_path and find_preset("codecs", name)[0].own_weights
    if path and read:
        codec = load(path, name=None if by_path else name)
    elif own:
        codec, read = build(name), True
    else:
        with torch.device("meta"):  # sizes alone, without random numbers or memory for weights
            codec = build(name)
    return {
        "name": codec.name,
        "sample_rate": codec.sample_rate,
        "decoded_rate": codec.decoded_rate,
        "frame_size": codec.frame_size,
        "frame_rate": round(float(codec.frame_rate), 4),
        "channels": codec.channels,
        "kind": codec.kind,
        "codebooks": codec.codebooks,
        "sizes": list(codec.sizes),
        "width": codec.width,
        "kbps": round(codec.kbps, 4),
        "parameters": codec.parameters_trained,
        "entries": codec.codebook_values,
        "parameters_with_codebooks": codec.parameters_with_codebooks,
        "decodes": codec.decodes,
        "causal": codec.causal,
        "latency_ms": None if math.isinf(codec.latency) else round(1000 * codec.latency, 2),
        **({} if by_path else taxonomy_of(name)),
        "weights": "its own" if own else str(path) if path else None,
        "fingerprint": codec.fingerprint if read else None,
        "decoder_fingerprint": codec.decoder_fingerprint if read else None,
        "card": codec.card if path and read and is_ours(path) else None,
    }


def build(name: str, family: str = "codecs") -> Any:
    """Build the codec or decoder of a known name with new random weights, or with its own.

    Raises:
        UnknownPartError: there is no such name.
        ExternalCodecError: the codec of another package cannot be built, or lacks members.
    """
    kind, config = find_preset(family, name)
    ours = kind.__module__.startswith("audiotok.")
    codec = kind(config) if ours else external.build_plugin(kind, config)
    codec.name = name
    return codec


def load(
    name_or_path: str | Path = "speech",
    *,
    name: str | None = None,
    device: str | torch.device = "cpu",
    layout: str | None = None,
    family: str = "codecs",
) -> Codec:
    """Load a codec ready to use, by name (`"encodec_24khz"`) or by the path of a checkpoint.

    Weights that neither ship nor are in the cache are downloaded (`hub`). A checkpoint may be of
    audiotok or of another program (`state_dicts`): its codec is recognised from its tensors.

    Args:
        name_or_path: a codec's name, or the id of the Hugging Face repository of its weights; else
            a file, or the folder of such a repository or of `codecs.transformers`.
        name: name of the codec in a file whose weights fit several (DM-Codec's are
            SpeechTokenizer's in all but their values).
        device: device on which to place it.
        layout: layout of the codes, for a codec of several (`Codec.layouts`); its own if None.
        family: what is looked for in a file of another program: "codecs", or "decoders".

    Raises:
        CheckpointError: no weights, or a file that does not fit; the message tells what to do.
        DeviceError: there is no such device here.
        InputError: there is no such layout.
        HubError: weights that cannot be downloaded; the message tells which file to put where.
        UnknownPartError: no such name; the message lists the known ones.
    """
    device = usable_device(device)
    path = Path(name_or_path)
    if not is_path(name_or_path):
        name = name_at_hub(name_or_path) or str(name_or_path)
        if find_preset("codecs", name)[0].own_weights:
            codec = build(name)
            if layout is not None:
                codec.set_layout(layout)
            return codec.eval().requires_grad_(False).to(device)
        path = weights_of(name) or _fetch(name)
    elif looks_like_id(name_or_path):
        known = ", ".join(hub_ids())
        raise CheckpointError(
            f"{name_or_path}: no such path, nor a Hugging Face repository known here ({known}); of "
            "another repository, download the folder and give its path"
        )
    path = file_of(path)
    codec = _load_own(path, name) if is_ours(path) else _load_external(path, name, family)
    if layout is not None:
        codec.set_layout(layout)
    return codec.eval().requires_grad_(False).to(device)


def _fetch(name: str) -> Path:
    """Download the published weights of a codec and return their path."""
    source = find_preset("codecs", name)[0].sources.get(name)
    if source is None:
        raise CheckpointError(f"codec {name!r} has no weights here; give the path of a checkpoint")
    return hub.fetch(name, source)


def _load_own(path: Path, name: str | None) -> Codec:
    """Load a file that `save` wrote."""
    metadata = read_card(path)
    try:
        kind = find(metadata["family"], metadata["codec"])
        config = kind.config_type(**metadata["config"])
        if name is not None and kind.shared_weights and name in kind.presets:
            config, metadata["name"] = kind.presets[name], name
        with SkipInit():
            codec = kind(config)
    except TeacherError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        raise CheckpointError(f"{path}: no codec here is built so: {_line(error)}") from None
    equal = [preset for preset, config in kind.presets.items() if config == codec.config]
    codec.name = _checked_name(path, metadata["name"], name, [metadata["name"], *equal])
    codec.former_fingerprints = tuple(metadata["former_fingerprints"])
    codec.card = metadata["card"]
    return _with_weights(codec, _read_state(path), {}, path)


def _load_external(path: Path, name: str | None, family: str) -> Codec:
    """Load a file of another program."""
    try:
        tensors, metadata = checkpoint_reader.read(path)
    except checkpoint_reader.WeightsFileError as error:
        raise CheckpointError(str(error)) from None
    kinds = {d: kind for kind in parts(family).values() for d in kind.state_dict_adapters}
    known = ((state_dicts.recognise(kinds, p), p) for p in checkpoint_reader.parts(tensors))
    adapter, tensors = next((one for one in known if one[0]), (None, tensors))
    if adapter is None:
        raise CheckpointError(f"{path}: {state_dicts.unrecognised(kinds, tensors)}")
    kind = kinds[adapter]
    try:
        tensors = {**tensors, **checkpoint_reader.beside(path, adapter.beside)}
        weights, origin = adapter.translate(tensors)
        sizes = adapter.sizes(weights, metadata)
    except KeyError as error:
        raise CheckpointError(f"{path}: partial {adapter.source}: no {error.args[0]}") from None
    except (StateDictError, checkpoint_reader.WeightsFileError) as error:
        raise CheckpointError(f"{path}: {adapter.source}: {error}") from None
    except (ValueError, IndexError) as error:
        raise CheckpointError(f"{path}: damaged {adapter.source}: {_line(error)}") from None
    fitting = [n for n, c in kind.presets.items() if sizes.items() <= vars(c).items()]
    if not fitting and name is not None and name in kind.presets:
        fitting = [name]  # so that the message tells which tensors are missing or misshapen
    chosen = _checked_name(path, fitting[0] if fitting else kind.name, name, fitting)
    try:
        config = kind.presets[chosen] if fitting else kind.config_type(**sizes)
        with SkipInit():
            codec = kind(config)
    except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        raise CheckpointError(f"{path}: no codec here is built so: {_line(error)}") from None
    if name is None and any(kind.presets[other] != config for other in fitting):
        others = ", ".join(other for other in fitting if kind.presets[other] != config)
        alike = "%s: its weights do not tell %s from %s; another name makes it that"
        log.warning(alike, path, chosen, others)
    if not fitting and "sample_rate" in vars(config).keys() - sizes:
        log.warning("%s: of no published size; taken to be for %d Hz", path, codec.sample_rate)
    codec.name = chosen
    return _with_weights(codec, weights, origin, path)


def _checked_name(path: Path, default: str, requested: str | None, fitting: Sequence[str]) -> str:
    """Return the name of the codec in a file whose weights fit those of `fitting`.

    Raises:
        CheckpointError: the requested codec is not among them.
    """
    if requested is None:
        return default
    if requested not in fitting:
        raise CheckpointError(f"{path}: weights of {default!r}, not of {requested!r}")
    return requested


def _with_weights(codec: Codec, weights: Weights, origin: Mapping[str, str], path: Path) -> Codec:
    """Return the codec with these weights, which must be all of its own and no others."""
    try:
        state_dicts.check(weights, codec.own_state(), origin)
        check_finite(weights, path, names=origin)
    except NotFiniteError as error:
        raise CheckpointError(str(error)) from None
    except StateDictError as error:
        raise CheckpointError(f"{path}: weights do not fit codec {codec.name!r}: {error}") from None
    codec.load_state_dict(weights, strict=False)  # checked above
    return codec


def _line(error: Exception) -> str:
    """Return a message of torch, which may run over many lines, as one line."""
    return " ".join(str(error).split())[:300]
