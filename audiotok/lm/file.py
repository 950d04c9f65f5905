"""A language model in one safetensors file: weights, sizes, and the layout it speaks."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes

from audiotok._platform import jsonfile
from audiotok._platform.atomic import complete
from audiotok.codecs.checkpoint import load
from audiotok.codecs.models.base import Codec
from audiotok.lm.layout import Layout
from audiotok.lm.model import Config, Transformer
from audiotok.nn.finite import check_finite

KIND = "audiotok lm 1"


def save_model(model: Transformer, layout: Layout, path: Path, *, card: str = "") -> None:
    """Writes it: complete or not at all."""
    about = {
        "format": KIND,
        "config": json.dumps(asdict(model.config)),
        "text": str(model.text),
        "layout": json.dumps(asdict(layout)),
        "card": card,
    }
    with complete(path) as part:
        # Not save_file, whose files only their owner may read.
        weights = {key: value.contiguous() for key, value in model.state_dict().items()}
        part.write_bytes(to_bytes(weights, about))


def load_model(path: str | Path, *, device: str = "cpu") -> tuple[Transformer, Layout]:
    """Reads what `save_model` wrote; in eval mode.

    Raises:
        ValueError: not there, damaged, NaN or infinite, or another kind of file.
    """
    try:
        with safe_open(path, "pt", device=device) as file:
            about = file.metadata() or {}
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        if about.get("format") != KIND:
            raise ValueError(f"{path}: not a language model of audiotok lm train")
        layout = jsonfile.parse(about["layout"], f"{path}: layout")
        layout = Layout(**layout | {"sizes": tuple(layout["sizes"])})
        model = Transformer(
            layout.vocabulary,
            int(about["text"]),
            Config(**jsonfile.parse(about["config"], f"{path}: config")),
        )
        model.load_state_dict(weights)
        check_finite(weights, path)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such model; audiotok lm train makes one") from None
    except (SafetensorError, OSError, KeyError, TypeError, RuntimeError, ArithmeticError) as error:
        text = " ".join(str(error).split())[:200]
        raise ValueError(f"{path}: cannot be read: {text}") from None
    return model.to(torch.device(device)).eval(), layout


def codec_of(layout: Layout) -> Codec:
    """The codec that a layout's codes are of.

    Raises:
        ValueError: there are other weights of it here.
    """
    codec = load(layout.codec)
    if not codec.has_codes_of(layout.fingerprint):
        raise ValueError(
            f"codes of other weights of {layout.codec} ({layout.fingerprint}) than are here "
            f"({codec.fingerprint})"
        )
    return codec
