"""A codec in one file: safetensors weights with the config inside; `load` reads one by name."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes

from audiotok._platform import jsonfile
from audiotok._platform.registry import find, find_preset, names, presets
from audiotok.codecs.models.base import Codec
from audiotok.nn.finite import NotFiniteError, check_finite, not_finite
from audiotok.nn.pretrained import hub
from audiotok.nn.pretrained import reader as foreign
from audiotok.nn.pretrained import state_dicts as dialects
from audiotok.nn.pretrained.state_dicts import DialectError, Weights

log = logging.getLogger("audiotok")

WEIGHTS = Path(__file__).parent / "weights"
FORMAT = "audiotok 1"


class CheckpointError(ValueError):
    """A file that is no checkpoint, or one of another codec, or weights that are not there."""


def save(
    codec: Codec,
    path: str | Path,
    *,
    card: dict[str, Any] | None = None,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write weights, with what it takes to build the codec again.

    Args:
        codec: any codec.
        path: a .safetensors file; written under a temporary name, then renamed.
        card: facts about the training, kept in the file.
        dtype: of the weights in the file. Half precision is for weights of one's own, saved before
            they are used; published weights need float32 to give the codes that they are known for.

    Raises:
        CheckpointError: a weight is NaN or infinite, or becomes so in `dtype`; nothing is written.
    """
    path = Path(path)
    about = {
        "format": FORMAT,
        "codec": type(codec).name,
        "name": codec.name,
        "config": json.dumps(dataclasses.asdict(codec.config)),
        "card": json.dumps(card or {}),
        "former_fingerprints": json.dumps(codec.former_fingerprints),
    }
    state = {
        key: (value.to(dtype) if value.is_floating_point() else value).cpu().contiguous()
        for key, value in codec.state_dict().items()
    }
    found = not_finite(state)
    if found:
        raise CheckpointError(f"{path}: not written: {found[0]!r} holds {found[1]} in {dtype}")
    part = path.with_name(f".{path.name}.part")
    try:
        # Not save_file, whose files only their owner may read.
        part.write_bytes(to_bytes(state, metadata=about))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def read_card(path: str | Path) -> dict[str, Any]:
    """What `save` wrote beside the weights: codec (its file), name, config and card.

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
            "name": about.get("name", about["codec"]),  # what was written before presets had names
            "config": jsonfile.parse(about["config"], "config"),
            "card": jsonfile.parse(about["card"], "card"),
            "former_fingerprints": jsonfile.parse(
                about.get("former_fingerprints", "[]"), "former_fingerprints"
            ),
        }
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged; its config cannot be read ({error})") from None


def is_ours(path: Path) -> bool:
    """Whether `save` wrote a file, now or in a later version."""
    try:
        with safe_open(path, "pt") as file:
            return (file.metadata() or {}).get("format", "").startswith("audiotok")
    except (SafetensorError, OSError):
        return False


def weights_of(name: str) -> Path | None:
    """The weights of codec `name` that are here, shipped or in the cache, or None."""
    path = WEIGHTS / f"{name}.safetensors"
    if path.is_file():
        return path
    return hub.cached(name, find_preset("codecs", name)[0].sources.get(name))


def is_path(name_or_path: str | Path) -> bool:
    """Whether this is a checkpoint's path and not a codec's name.

    A name wins over a file of that name: "./speech" is the file.
    """
    if str(name_or_path) in presets("codecs"):
        return False
    path = Path(name_or_path)
    written = isinstance(name_or_path, Path) or os.sep in name_or_path
    return written or path.suffix in hub.SUFFIXES or path.exists()


def describe(name_or_path: str | Path, *, read: bool = True) -> dict[str, Any]:
    """What a codec is, as plain data: name, rates, codebooks, size, weights.

    `name` to `latency_ms` need no weights; `weights` is the path of those that are here, and
    `fingerprint`, `decoder_fingerprint` and `card` are theirs.

    Args:
        name_or_path: as for `load`; nothing is downloaded.
        read: weights that are here; if not, a codec's name has no fingerprint and no card.
    """
    given = is_path(name_or_path)
    path = Path(name_or_path) if given else weights_of(str(name_or_path))
    read = path is not None and (read or given)
    if path and read:
        codec = load(path, name=None if given else str(name_or_path))
    else:
        with torch.device("meta"):  # sizes alone: nothing is drawn, no memory taken
            codec = build(str(name_or_path))
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
        "fingerprint": codec.fingerprint if read else None,
        "decoder_fingerprint": codec.decoder_fingerprint if read else None,
        "card": read_card(path)["card"] if path and read and is_ours(path) else None,
    }


def build(name: str) -> Codec:
    """A codec of a known name with new weights.

    Raises:
        UnknownPartError: there is no such name.
    """
    kind, config = find_preset("codecs", name)
    codec = kind(config)
    codec.name = name
    return codec


def load(
    name_or_path: str | Path = "speech",
    *,
    name: str | None = None,
    device: str | torch.device = "cpu",
) -> Codec:
    """A codec ready to use, by name (`"encodec_24khz"`) or by the path of a checkpoint.

    Weights that neither ship nor are in the cache are downloaded (`hub`). A checkpoint may be ours
    or that of another program (`state_dicts`): its codec is recognised from its tensors.

    Args:
        name_or_path: a codec's name; else a file, or a Hugging Face repository's folder.
        name: the codec that a file is meant for, where its weights fit several (DM-Codec's are
            SpeechTokenizer's in all but their values).
        device: where to put it.

    Raises:
        CheckpointError: no weights, or a file that does not fit; says what to do.
        HubError: weights that cannot be downloaded; says which file to put where.
        UnknownPartError: no such name; lists the known ones.
    """
    path = Path(name_or_path)
    if not is_path(name_or_path):
        name = str(name_or_path)
        path = weights_of(name) or _fetched(name)
    codec = _ours(path, name) if is_ours(path) else _foreign(path, name)
    return codec.eval().requires_grad_(False).to(device)


def _fetched(name: str) -> Path:
    source = find_preset("codecs", name)[0].sources.get(name)
    if source is None:
        raise CheckpointError(f"codec {name!r} has no weights here; give the path of a checkpoint")
    return hub.fetch(name, source)


def _ours(path: Path, name: str | None) -> Codec:
    """The codec in a file of our own."""
    about = read_card(path)
    try:
        kind = find("codecs", about["codec"])
        codec = kind(kind.config_type(**about["config"]))
    except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        raise CheckpointError(f"{path}: no codec here is built so: {_line(error)}") from None
    equal = [preset for preset, config in kind.presets.items() if config == codec.config]
    codec.name = _agreed(path, about["name"], name, [about["name"], *equal])
    codec.former_fingerprints = tuple(about["former_fingerprints"])
    with safe_open(path, "pt") as file:
        state = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
    return _filled(codec, state, {}, path)


def _foreign(path: Path, name: str | None) -> Codec:
    """The codec in a file of another program."""
    try:
        theirs, about = foreign.read(path)
    except foreign.ForeignError as error:
        raise CheckpointError(str(error)) from None
    kinds = {
        d: kind for kind in (find("codecs", n) for n in names("codecs")) for d in kind.dialects
    }
    known = ((dialects.recognise(kinds, part), part) for part in foreign.parts(theirs))
    dialect, theirs = next((one for one in known if one[0]), (None, theirs))
    if dialect is None:
        raise CheckpointError(f"{path}: {dialects.unrecognised(kinds, theirs)}")
    kind = kinds[dialect]
    try:
        weights, origin = dialect.translate(theirs)
        sizes = dialect.sizes(weights, about)
    except KeyError as error:
        raise CheckpointError(f"{path}: partial {dialect.source}: no {error.args[0]}") from None
    except (ValueError, IndexError) as error:
        raise CheckpointError(f"{path}: damaged {dialect.source}: {_line(error)}") from None
    fitting = [n for n, c in kind.presets.items() if sizes.items() <= vars(c).items()]
    if not fitting and name is not None and name in kind.presets:
        fitting = [name]  # by which what is missing or misshapen is told best
    chosen = _agreed(path, fitting[0] if fitting else kind.name, name, fitting)
    try:
        config = kind.presets[chosen] if fitting else kind.config_type(**sizes)
        codec = kind(config)
    except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        raise CheckpointError(f"{path}: no codec here is built so: {_line(error)}") from None
    if not fitting and "sample_rate" not in sizes:
        log.warning("%s: of no published size; taken to be for %d Hz", path, codec.sample_rate)
    codec.name = chosen
    return _filled(codec, weights, origin, path)


def _agreed(path: Path, found: str, asked: str | None, fitting: Sequence[str]) -> str:
    """The name of the codec in a file whose weights fit those of `fitting`."""
    if asked is None:
        return found
    if asked not in fitting:
        raise CheckpointError(f"{path}: weights of {found!r}, not of {asked!r}")
    return asked


def _filled(codec: Codec, weights: Weights, origin: Mapping[str, str], path: Path) -> Codec:
    """The codec with these weights, which must be all of its own and no others."""
    try:
        dialects.check(weights, codec.state_dict(), origin)
        check_finite(weights, path, names=origin)
    except NotFiniteError as error:
        raise CheckpointError(str(error)) from None
    except DialectError as error:
        raise CheckpointError(f"{path}: weights do not fit codec {codec.name!r}: {error}") from None
    codec.load_state_dict(weights)
    return codec


def _line(error: Exception) -> str:
    """torch's messages run over many lines."""
    return " ".join(str(error).split())[:300]
