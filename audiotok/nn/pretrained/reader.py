"""Reader of weights files of other programs, as plain tensors; no code in them is ever run."""

from __future__ import annotations

import logging
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
from audiotok._platform.errors import Error
from audiotok.nn.pretrained.hub import FOLDER
from audiotok.nn.pretrained.state_dicts import Weights

log = logging.getLogger("audiotok")

# Keys of the weights in checkpoints that hold more, in order of preference: audiocraft (whose
# `model` is the latest and not the best), torch examples, Lightning and DAC, EnCodec and codecs
# derived from it, the trainer of SpeechTokenizer.
INSIDE = (
    *("best_state", "state_dict", "model_state_dict", "model", "generator"),
    *("model_g", "net_g", "codec", "net", "weights"),
)
# Prefixes of names that wrappers around the network add.
WRAPPERS = (
    *("module.", "_orig_mod.", "model.", "generator.", "codec."),
    *("model_g.", "net_g.", "net.", "_forward_module.", "audio_tokenizer."),
)
# Parts of a codec in which HiFi-Codec has its weights, each under its own key.
PARTS = ("encoder", "quantizer", "generator")
# Files of options, and the names of weights beside which they are read.
OPTIONS = {"config.json": (*FOLDER, "model.pt"), "model_config.json": (*FOLDER, "model.ckpt")}
OTHERS = {b"RIFF": "audio", b"fLaC": "audio", b"OggS": "audio"}  # first bytes of files


class WeightsFileError(Error, ValueError):
    """Error for a file that holds no weights, or more than weights."""


def read(path: str | Path) -> tuple[Weights, dict[str, Any]]:
    """Read the tensors of a weights file, and its metadata.

    Floating-point tensors become float32, weight normalisation is folded, and wrappers around the
    state dict are removed.

    Args:
        path: safetensors file or file of `torch.save`, with any suffix; or the folder of a Hugging
            Face repository.

    Returns:
        Tensors by name, and the content of config.json (Hugging Face), of the metadata (DAC), or
        under `cfg` that of the key of this name.

    Raises:
        WeightsFileError: there is no such file or it holds no weights, is damaged, or needs code to
            be read.
    """
    path = Path(path)
    if path.is_dir():
        files = [path / name for name in FOLDER if (path / name).is_file()]
        if not files:
            raise WeightsFileError(f"{path}: a folder without {' or '.join(FOLDER)}")
        path = files[0]
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except FileNotFoundError:
        raise WeightsFileError(f"{path}: no such checkpoint; check the path") from None
    except OSError as error:
        raise WeightsFileError(f"{path}: cannot be read ({error.strerror})") from None
    if head[:4] in OTHERS or path.suffix == ".tok":
        kind = OTHERS.get(head[:4], "tokens")
        raise WeightsFileError(f"{path}: {kind}, not a checkpoint; a codec encodes and decodes it")
    content = _safetensors(path) if head[8:] == b"{" else _pickled(path)
    if isinstance(content, Mapping) and {"players", "random", "step"} <= set(content):
        raise WeightsFileError(
            f"{path}: the state of a training run of audiotok, whose codec is best.safetensors "
            "beside it"
        )
    weights, metadata = _unwrapped(content, {})
    if not weights:
        raise WeightsFileError(f"{path}: holds no weights, that is, no tensors by name")
    return fold(_bare(weights)), _config(path) | metadata


def beside(path: Path, files: Mapping[str, str]) -> Weights:
    """Return the tensors of files that belong to a weights file; warn of those not there.

    Args:
        path: the weights file, or its folder.
        files: paths relative to the folder, by the prefix that the names of tensors get.

    Raises:
        WeightsFileError: as `read`.
    """
    folder = path if path.is_dir() else path.parent
    present = {prefix: folder / file for prefix, file in files.items() if (folder / file).is_file()}
    for prefix in files.keys() - present:
        log.warning("%s: has no %s beside it, and does without", path, files[prefix])
    return {
        f"{prefix}{name}": tensor
        for prefix, file in present.items()
        for name, tensor in read(file)[0].items()
    }


def _safetensors(path: Path) -> Mapping[str, Any]:
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsFileError(f"{path}: damaged safetensors ({error})") from None


def _pickled(path: Path) -> Any:
    try:
        with path.open("rb") as file:  # given a path, torch would also consider the suffix
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)|class ([\w.]+)", str(error))
        if not named:
            raise WeightsFileError(f"{path}: no checkpoint, or damaged ({_line(error)})") from None
        raise WeightsFileError(
            f"{path}: needs {named[1] or named[2]} to be read, and no code named in a file is run; "
            "only files of tensors are read"
        ) from None
    except Exception as error:  # a damaged pickle can raise any exception
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if any(name.endswith(".data/extern_modules") for name in archive.namelist()):
                    raise WeightsFileError(
                        f"{path}: a torch.package, which holds program code, and no code in a "
                        "file is run; only files of tensors are read"
                    ) from None
        raise WeightsFileError(f"{path}: no checkpoint, or damaged ({_line(error)})") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__


def _unwrapped(content: Any, metadata: dict[str, Any]) -> tuple[Weights, dict[str, Any]]:
    """Return the tensors in a checkpoint, and its metadata: arguments of DAC, a `cfg`."""
    if not isinstance(content, Mapping):
        return {}, metadata
    own = content.get("metadata")
    if isinstance(own, Mapping) and isinstance(own.get("kwargs"), Mapping):
        metadata = {**metadata, **own["kwargs"]}
    if isinstance(content.get("cfg"), Mapping):  # of fairseq and of BEATs
        metadata = {**metadata, "cfg": dict(content["cfg"])}
    rate = re.search(r"^sample_rate: (\d+)$", str(content.get("xp.cfg", "")), re.MULTILINE)
    if rate:  # in the configuration of audiocraft, which is YAML
        metadata = {**metadata, "sample_rate": int(rate[1])}
    if all(isinstance(content.get(part), Mapping) for part in PARTS):
        content = {f"{part}.{n}": w for part in PARTS for n, w in content[part].items()}
    for key in INSIDE:
        if isinstance(content.get(key), Mapping):
            weights, facts = _unwrapped(content[key], metadata)
            if weights:  # and not the options of a model under the same key
                return weights, facts
    return {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in content.items()
        if isinstance(name, str) and isinstance(tensor, Tensor)
    }, metadata


def _bare(weights: Weights) -> Weights:
    """Remove the prefixes that wrappers added to all names."""
    for prefix in WRAPPERS:
        if all(name.startswith(prefix) for name in weights):
            return _bare({name.removeprefix(prefix): value for name, value in weights.items()})
    return weights


def parts(weights: Weights) -> Iterator[Weights]:
    """Yield all weights, then those under the prefix of each wrapper, without that prefix.

    This is needed for checkpoints of a generator with its discriminator (Lightning).
    """
    yield weights
    for prefix in WRAPPERS:
        part = {n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)}
        if 0 < len(part) < len(weights):
            yield from parts(_bare(part))


def _config(path: Path) -> dict[str, Any]:
    """Read the options beside the weights of a Hugging Face repository, if they are there."""
    for name, weights in OPTIONS.items():
        file = path.with_name(name)
        if path.name in weights and file.is_file():
            return read_config(file)
    return {}


def read_config(path: Path) -> dict[str, Any]:
    """Read the options of a model, an object in a JSON file.

    Raises:
        WeightsFileError: the file cannot be read, or holds something else.
    """
    try:
        config = jsonfile.parse(path.read_bytes(), str(path))
    except OSError as error:
        raise WeightsFileError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise WeightsFileError(str(error)) from None
    if not isinstance(config, dict):
        raise WeightsFileError(f"{path}: not the options of a model, which are a JSON object")
    return config


def fold(weights: Weights) -> Weights:
    """Replace each pair of length and direction (weight normalisation) by the plain weight.

    torch names them `weight_g` and `weight_v`, and since 2.0 `parametrizations.weight.original0`
    and `original1`. They are multiplied by the function of torch itself, so that the result equals
    that of the program that trained them, to the bit.
    """
    length_name = re.compile(r"(.*\.|)(?:weight_g|parametrizations\.weight\.original0)")
    directions = {"weight_g": "weight_v", "original0": "original1"}
    folded = dict(weights)
    for name, length in weights.items():
        match = length_name.fullmatch(name)
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
