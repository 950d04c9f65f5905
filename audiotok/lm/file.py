"""Reading and writing of a language model: one safetensors file of weights, sizes and layout."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes

from audiotok._platform import jsonfile
from audiotok._platform.atomic import atomic_file
from audiotok._platform.errors import InputError
from audiotok.codecs.checkpoint import load
from audiotok.codecs.models.base import Codec
from audiotok.lm.layout import Layout
from audiotok.lm.model import Config, Transformer
from audiotok.nn.device import usable_device
from audiotok.nn.finite import check_finite
from audiotok.nn.skip_init import SkipInit

KIND = "audiotok lm 1"


def save_model(model: Transformer, layout: Layout, path: Path, *, card: str = "") -> None:
    """Write a model and its layout to a safetensors file, completely or not at all.

    Args:
        model: the model.
        layout: the layout of its ids.
        path: the file.
        card: a text about the model that is kept in the file.
    """
    metadata = {
        "format": KIND,
        "config": json.dumps(asdict(model.config)),
        "text": str(model.text),
        "latent": str(model.sums.latent if model.sums else 0),
        "layout": json.dumps(asdict(layout)),
        "card": card,
    }
    with atomic_file(path) as part:
        # save_file is not used, because only the owner may read the files that it writes.
        weights = {key: value.contiguous() for key, value in model.state_dict().items()}
        part.write_bytes(to_bytes(weights, metadata))


def load_model(path: str | Path, *, device: str = "cpu") -> tuple[Transformer, Layout]:
    """Read a model, in eval mode, and its layout from a file of `save_model`.

    Args:
        path: the file.
        device: a torch device.

    Raises:
        DeviceError: there is no such device here.
        ValueError: the file is not there, damaged or of another kind, or a weight is NaN or
            infinite.
    """
    usable_device(device)
    try:
        with safe_open(path, "pt", device=device) as file:
            metadata = file.metadata() or {}
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        if metadata.get("format") != KIND:
            raise InputError(f"{path}: not a language model of audiotok lm train")
        layout = jsonfile.parse(metadata["layout"], f"{path}: layout")
        layout = Layout(**layout | {"sizes": tuple(layout["sizes"])})
        config = Config(**jsonfile.parse(metadata["config"], f"{path}: config"))
        text, latent = int(metadata["text"]), int(metadata.get("latent", 0))
        with SkipInit():
            model = Transformer(layout.vocabulary, text, config, latent=latent)
        model.load_state_dict(weights)
        check_finite(weights, path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such model; audiotok lm train makes one") from None
    except (SafetensorError, OSError, KeyError, TypeError, RuntimeError, ArithmeticError) as error:
        text = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: cannot be read: {text}") from None
    return model.to(torch.device(device)).eval(), layout


def codec_of(layout: Layout, checkpoint: str = "") -> Codec:
    """Load the codec that a layout's codes are of.

    Args:
        layout: the layout.
        checkpoint: path of the codec's weights; "" finds them by the codec's name.

    Raises:
        ValueError: the weights of the codec are missing, or give other codes.
    """
    codec = load(checkpoint or layout.codec)
    if not codec.has_codes_of(layout.fingerprint):
        raise InputError(
            f"codes of other weights of {layout.codec} ({layout.fingerprint}) than are here "
            f"({codec.fingerprint})"
        )
    return codec
