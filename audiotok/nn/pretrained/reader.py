"""Weights files of other programs, read as plain tensors; nothing in them is ever run."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from audiotok._platform import jsonfile
from audiotok.nn.pretrained.state_dicts import Weights

# What holds the weights in checkpoints that hold more: audiocraft's, whose `model` is the latest
# and not the best; torch's habit, Lightning and DAC; EnCodec's family; SpeechTokenizer's trainer.
INSIDE = (
    *("best_state", "state_dict", "model_state_dict", "model", "generator"),
    *("model_g", "net_g", "codec", "net", "weights"),
)
# Put before names by what was wrapped around the network.
WRAPPERS = (
    *("module.", "_orig_mod.", "model.", "generator.", "codec."),
    *("model_g.", "net_g.", "net.", "_forward_module."),
)
FOLDER = ("model.safetensors", "pytorch_model.bin")  # of a Hugging Face repository


def is_folder(path: Path) -> bool:
    """Whether this is the folder of a Hugging Face repository with weights."""
    return any((path / name).is_file() for name in FOLDER)


class ForeignError(ValueError):
    """A file that holds no weights, or more than weights."""


def read(path: str | Path) -> tuple[Weights, dict[str, Any]]:
    """The tensors of a file, float32 where they are numbers with a point, and facts beside them.

    Weight normalisation is folded in, and what wraps a state dict is taken off.

    Args:
        path: safetensors or what `torch.save` wrote, whatever its suffix; or a Hugging Face
            repository's folder.

    Returns:
        tensors by name, and what config.json (Hugging Face) or the metadata (DAC) says.

    Raises:
        ForeignError: no such file, no weights, damaged, or it needs code to be read.
    """
    path = Path(path)
    if path.is_dir():
        found = [path / name for name in FOLDER if (path / name).is_file()]
        if not found:
            raise ForeignError(f"{path}: a folder without {' or '.join(FOLDER)}")
        path = found[0]
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except FileNotFoundError:
        raise ForeignError(f"{path}: no such checkpoint; check the path") from None
    except OSError as error:
        raise ForeignError(f"{path}: cannot be read ({error.strerror})") from None
    content = _safetensors(path) if head[8:] == b"{" else _pickled(path)
    weights, about = _unwrapped(content, {})
    if not weights:
        raise ForeignError(f"{path}: holds no weights, that is, no tensors by name")
    return fold(_bare(weights)), _config(path) | about


def _safetensors(path: Path) -> Mapping[str, Any]:
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ForeignError(f"{path}: damaged safetensors ({error})") from None


def _pickled(path: Path) -> Any:
    try:
        with path.open("rb") as file:  # of a path, torch would also look at the suffix
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)|class ([\w.]+)", str(error))
        if not named:
            raise ForeignError(f"{path}: no checkpoint, or damaged ({_line(error)})") from None
        raise ForeignError(
            f"{path}: needs {named[1] or named[2]} to be read, and no code named in a file is run; "
            "only files of tensors are read"
        ) from None
    except Exception as error:  # a damaged pickle ends in any exception at all
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if any(name.endswith(".data/extern_modules") for name in archive.namelist()):
                    raise ForeignError(
                        f"{path}: a torch.package, which holds program code, and no code in a "
                        "file is run; only files of tensors are read"
                    ) from None
        raise ForeignError(f"{path}: no checkpoint, or damaged ({_line(error)})") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__


def _unwrapped(content: Any, about: dict[str, Any]) -> tuple[Weights, dict[str, Any]]:
    """The tensors in a checkpoint, and the arguments that DAC's writes down with them."""
    if not isinstance(content, Mapping):
        return {}, about
    metadata = content.get("metadata")
    if isinstance(metadata, Mapping) and isinstance(metadata.get("kwargs"), Mapping):
        about = {**about, **metadata["kwargs"]}
    rate = re.search(r"^sample_rate: (\d+)$", str(content.get("xp.cfg", "")), re.MULTILINE)
    if rate:  # of audiocraft's recipe, which is YAML
        about = {**about, "sample_rate": int(rate[1])}
    for key in INSIDE:
        if isinstance(content.get(key), Mapping):
            weights, facts = _unwrapped(content[key], about)
            if weights:  # not the options of a model, by the same name
                return weights, facts
    return {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in content.items()
        if isinstance(name, str) and isinstance(tensor, Tensor)
    }, about


def _bare(weights: Weights) -> Weights:
    """Names without what wrappers put before all of them."""
    for prefix in WRAPPERS:
        if all(name.startswith(prefix) for name in weights):
            return _bare({name.removeprefix(prefix): value for name, value in weights.items()})
    return weights


def parts(weights: Weights) -> Iterator[Weights]:
    """Yield the weights whole, then those under each wrapper's name without that name, as needed
    where a generator stands beside its discriminator (Lightning)."""
    yield weights
    for prefix in WRAPPERS:
        part = {n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)}
        if 0 < len(part) < len(weights):
            yield from parts(_bare(part))


def _config(path: Path) -> dict[str, Any]:
    """config.json beside a Hugging Face repository's weights."""
    file = path.with_name("config.json")
    return read_config(file) if path.name in FOLDER and file.is_file() else {}


def read_config(path: Path) -> dict[str, Any]:
    """Return the options of a model, which are an object in a JSON file.

    Raises:
        ForeignError: it cannot be read, or holds something else.
    """
    try:
        config = jsonfile.parse(path.read_bytes(), str(path))
    except OSError as error:
        raise ForeignError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise ForeignError(str(error)) from None
    if not isinstance(config, dict):
        raise ForeignError(f"{path}: not the options of a model, which are a JSON object")
    return config


def fold(weights: Weights) -> Weights:
    """Plain weights in the place of each length and direction (weight normalisation).

    torch spells them `weight_g` and `weight_v`, and since 2.0 `parametrizations.weight.original0`
    and `original1`. Folded by torch's own function, so to the bit as the program that trained.
    """
    spelt = re.compile(r"(.*\.|)(?:weight_g|parametrizations\.weight\.original0)")
    directions = {"weight_g": "weight_v", "original0": "original1"}
    folded = dict(weights)
    for name, length in weights.items():
        match = spelt.fullmatch(name)
        if not match:
            continue
        end = re.split(r"\.", name)[-1]
        other = name.removesuffix(end) + directions[end]
        direction = weights.get(other)
        if direction is None or direction.dim() != length.dim():
            continue
        axes = [i for i, size in enumerate(length.shape) if size != 1] or [0]
        if len(axes) > 1 or length.shape[axes[0]] != direction.shape[axes[0]]:
            continue
        del folded[name], folded[other]
        folded[f"{match[1]}weight"] = torch.ops.aten._weight_norm(direction, length, axes[0])
    return folded
