"""Check that a codec can be exported, before any work is done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from audiotok._platform.registry import has_preset
from audiotok.codecs.catalogue import name_at_hub
from audiotok.codecs.checkpoint import build, is_path
from audiotok.codecs.functions import FunctionCodec
from audiotok.codecs.models.base import Codec
from audiotok.codecs.models.kmeans import Extractor
from audiotok.codecs.models.vocos import Vocos
from audiotok.data.features.base import SpeechTeacher
from audiotok.data.features.hubert import Hubert
from audiotok.nn.layers.segments import Cut
from audiotok.nn.layers.window_attention import WindowAttention
from audiotok.runtime.exported import ExportError

TORCH = "it runs in torch"


def check_exportable(codec: Codec, *, steps: bool = False) -> None:
    """Raise unless a codec can be written as ONNX.

    A codec of another package that passes may still turn out not to be, when it is traced.

    Args:
        codec: the codec.
        steps: whether graphs of steps are asked for too.

    Raises:
        ExportError: it cannot; the message gives the reason and what to do.
    """
    if codec.precision != "float32":
        raise ExportError(f"{codec.name} is loaded in {codec.precision}: load it in float32")
    if codec.search_paths > 1:
        raise ExportError(f"{codec.name} searches for codes, which graphs do not: set_search(1)")
    for refuses, reason in REFUSALS:
        if refuses(codec):
            raise ExportError(f"{codec.name} {reason}")
    if steps and not codec.causal:
        raise ExportError(f"{codec.name} looks ahead, so it has no steps: export it whole")


def check_preset(name_or_path: str | Path, *, steps: bool = False) -> None:
    """Raise as `check_exportable` of a codec of a known name, before its weights are looked for.

    Nothing is known yet of the codec of a path.

    Args:
        name_or_path: as for `load`.
        steps: as for `check_exportable`.

    Raises:
        ExportError: it cannot be written as ONNX; the message gives the reason and what to do.
    """
    name = name_at_hub(name_or_path) or str(name_or_path)
    if is_path(name_or_path) or not has_preset("codecs", name):
        return
    with torch.device("meta"):  # sizes alone, without memory for weights
        codec = build(name)
    check_exportable(codec, steps=steps)


def _holds(*kinds: type[Any]) -> Callable[[Codec], bool]:
    """Return a test of whether a codec has a layer of one of these classes."""
    return lambda codec: any(isinstance(layer, kinds) for layer in codec.modules())


def _other_teacher(codec: Codec) -> bool:
    """Return whether a codec has a feature extractor that has no form in ONNX."""
    layers = codec.modules()
    return any(isinstance(x, SpeechTeacher) and type(x) is not Hubert for x in layers)


def _is(*names: str) -> Callable[[Codec], bool]:
    """Return a test of whether a codec is of one of these files."""
    return lambda codec: type(codec).__module__ in {f"audiotok.codecs.models.{n}" for n in names}


SPECTRA = ("clam", "dmel", "glm4_voice", "s3", "tadicodec")  # whose spectra have no form in ONNX
REFUSALS: tuple[tuple[Callable[[Codec], bool], str], ...] = (
    (
        lambda codec: isinstance(codec, FunctionCodec),
        "is made of functions, which ONNX cannot hold",
    ),
    (_holds(Extractor), f"hears windows of a recording, which ONNX cannot trace: {TORCH}"),
    (_other_teacher, f"hears by a pretrained network that has no form in ONNX here: {TORCH}"),
    (
        _is(*SPECTRA),
        f"computes spectra of a whole recording, which have no form in ONNX here: {TORCH}",
    ),
    (lambda codec: not codec.encodes, f"only decodes, and an export encodes too: {TORCH}"),
    (
        lambda codec: isinstance(codec, Vocos),
        f"decodes by how many codebooks there are, which no graph here is told: {TORCH}",
    ),
    (lambda codec: not codec.exact_chunks, "cannot be cut into pieces exactly, so not exported"),
    (
        _holds(Cut),
        "codes overlapping segments apart, the last one shorter (as EnCodec 48 kHz does): no graph"
        f" of fixed operations does that; {TORCH}",
    ),
    (
        _holds(WindowAttention),
        "attends within windows (as SNAC's music presets do), where its codes in ONNX are not"
        f" those in torch: {TORCH}",
    ),
    (
        lambda codec: any(getattr(layer, "rounding", None) for layer in codec.modules()),
        f"rounds its rotary positions, which the graphs count anew in each window: {TORCH}",
    ),
)
