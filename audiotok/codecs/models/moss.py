"""MOSS-Audio-Tokenizer: any audio at 24 kHz, 12.5 frames/s, 32 codes of 1024 a frame, 4 kbps.

    wave -> patches of 240 -> transformer -> pairs -> ... 4 transformers ... -> 32 x 1024
         <- patches of 240 <- transformer <- pairs <- ... 4 transformers ... <-/

There are transformers only, between patches: neighbouring steps are put side by side as features,
and taken apart again. A frame sees the 10 s before it at each transformer, and no later one, so
that a stream of any length runs in constant memory and equals the whole.

Source: Gong et al. 2026, arXiv:2602.10934, the configuration of its repository; the network
in the package vllm-omni 0.30.0, `moss_tts/audio_tokenizer.py`. The default decoder of that package
has a fifth transformer, by which 24 kHz become 48; the published one does not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, ClassVar

import torch
from torch import nn

from audiotok.codecs.models.base import Codec
from audiotok.codecs.taxonomy import Taxonomy
from audiotok.nn.layers.base import Layer, Mix, Pointwise
from audiotok.nn.layers.chain import Chain
from audiotok.nn.layers.fold import CausalFold, Unfold
from audiotok.nn.layers.window_transformer import WindowTransformer
from audiotok.nn.pretrained.options import Options
from audiotok.nn.pretrained.state_dicts import (
    Rule,
    StateDictAdapter,
    StateDictError,
    Weights,
    apart,
    count,
    squeeze,
)
from audiotok.nn.quantizers.rvq import Factorised, Rvq

HEAD = 64  # features of an attention head; the weights do not tell it
WIDE, LARGE = (2, 768, 12), (2, 1280, 32)


@dataclass(frozen=True)
class Config:
    """Sizes of `Moss`; the defaults are the published ones.

    A level is a transformer beside its patches: steps in a patch, width, blocks, and features that
    it gives. Patches come before the transformer in the encoder, and after it in the decoder.
    """

    sample_rate: int = 24000  # Hz
    encoder: Sequence[Sequence[int]] = (
        (240, *WIDE[1:], 384),
        (*WIDE, 384),
        (*WIDE, 640),
        (*LARGE, 768),
    )
    decoder: Sequence[Sequence[int]] = (
        (*LARGE, 1280),
        (*WIDE, 768),
        (*WIDE, 768),
        (240, *WIDE[1:], 240),
    )
    seconds: float = 10.0  # that a frame sees at each transformer
    latent: int = 512  # width of the latent that is quantized
    codebooks: int = 32
    size: int = 1024  # entries in a codebook
    code_width: int = 8  # features in which a codebook is searched

    def __post_init__(self) -> None:
        for name in ("encoder", "decoder"):  # TOML and JSON give lists
            object.__setattr__(self, name, tuple(map(tuple, getattr(self, name))))


def _map(inputs: int, outputs: int) -> Layer:
    """Return a linear map, or nothing where the width stays as it is."""
    if inputs == outputs:
        return Pointwise(nn.Identity())
    return Mix(inputs, outputs, bias=False)


def _level(config: Config, inputs: int, level: Sequence[int], rate: float) -> Chain:
    """Build a transformer between two maps, at a number of steps a second."""
    _, width, blocks, outputs = level
    transformer = WindowTransformer(
        width,
        4 * width,
        blocks=blocks,
        heads=width // HEAD,
        window=round(rate * config.seconds),
        norm=partial(nn.LayerNorm, eps=1e-5),
    )
    return Chain([_map(inputs, width), transformer, _map(width, outputs)])


def _encoder(config: Config) -> Chain:
    """Build the encoder: n x (patches, transformer), map."""
    layers: list[Layer] = []
    features, rate = 1, float(config.sample_rate)
    for level in config.encoder:
        features, rate = features * level[0], rate / level[0]
        layers += [CausalFold(level[0], by_feature=True), _level(config, features, level, rate)]
        features = level[3]
    return Chain([*layers, Mix(features, config.latent)])


def _decoder(config: Config) -> Chain:
    """Build the decoder: map, n x (transformer, patches)."""
    features = config.encoder[-1][3]
    layers: list[Layer] = [Mix(config.latent, features)]
    rate = config.sample_rate / prod(level[0] for level in config.encoder)
    for level in config.decoder:
        layers += [_level(config, features, level, rate), Unfold(level[0], by_feature=True)]
        features, rate = level[3] // level[0], rate * level[0]
    return Chain(layers)


# Of a config.json, and of its parts. What it says of sizes must agree with the weights.
_OPTIONS = Options(
    fields={
        "sampling_rate": "sample_rate",
        "sample_rate": "sample_rate",
        "causal_transformer_context_duration": "seconds",
    },
    derived=(
        *("decoder_kwargs", "downsample_rate", "enable_channel_interleave", "encoder_kwargs"),
        *("number_channels", "quantizer_kwargs", "quantizer_type", "version"),
    ),
)
_TRANSFORMER = Options(
    fields={"num_heads": "heads", "d_model": "width", "num_layers": "blocks"},
    fixed={
        "causal": True,
        "conv_layout": True,
        "gating": "none",
        "max_period": 10000,
        "module_type": "Transformer",
        "norm": "layer_norm",
        "positional_embedding": "rope",
    },
    derived=("dim_feedforward", "input_dimension", "layer_scale", "output_dimension"),
)
_PATCH = Options(fields={"patch_size": "steps"}, fixed={"module_type": "PatchedPretransform"})
_QUANTIZER = Options(
    derived=(
        *("codebook_dim", "codebook_size", "input_dim", "num_quantizers", "output_dim"),
        *("quantizer_type", "rvq_dim"),
    )
)
_RULES_OF_SEARCH = ("rlfq", "random_prefix_rlfq")  # on the unit sphere; others are not


def _inputs(weights: Weights, level: str) -> int:
    """Return the features that a level takes."""
    first = weights.get(f"{level}.layers.0.linear.weight")
    return len(weights[f"{level}.layers.1.layers.0.scale"]) if first is None else first.shape[1]


def _levels(weights: Weights, side: str) -> list[tuple[int, int, int, int]]:
    """Return the levels of the encoder or the decoder."""
    names = [
        f"{side}.layers.{2 * i + 1}"
        for i in range(count(weights, rf"{side}\.layers\.\d+\.layers\.1\.layers\.0\.scale"))
    ]
    inputs = [_inputs(weights, name) for name in names]
    rows = []
    for name in names:
        width = len(weights[f"{name}.layers.1.layers.0.scale"])
        blocks = count(weights, rf"{re.escape(name)}\.layers\.1\.layers\.\d+\.qkv\.weight")
        last = weights.get(f"{name}.layers.2.linear.weight")
        rows.append((width, blocks, width if last is None else len(last)))
    outputs = [row[2] for row in rows]
    if side == "encoder":
        steps = [n // before for n, before in zip(inputs, [1, *outputs], strict=False)]
    else:
        steps = [n // after for n, after in zip(outputs, [*inputs[1:], 1], strict=True)]
    return [(n, *row) for n, row in zip(steps, rows, strict=True)]


def _agreed(levels: Sequence[tuple[int, ...]], options: Any, where: str) -> None:
    """Raise unless the options of an encoder or a decoder are those of its levels."""
    read: dict[str, list[int]] = {"steps": [], "width": [], "blocks": [], "heads": []}
    for part in options or ():
        kind = _PATCH if part.get("module_type") == "PatchedPretransform" else _TRANSFORMER
        for name, value in kind.read(part, f"{where} of config.json").items():
            read[name].append(value)
    own = {
        "steps": [level[0] for level in levels],
        "width": [level[1] for level in levels],
        "blocks": [level[2] for level in levels],
        "heads": [level[1] // HEAD for level in levels],
    }
    for name, values in own.items():
        if options and read[name] != values:
            raise StateDictError(
                f"{where} of config.json has {name} {read[name]}, and the weights {values}"
            )


def _sizes(weights: Weights, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sizes of a codec with these weights."""
    options = _OPTIONS.read(metadata)
    quantizer = metadata.get("quantizer_kwargs") or {}
    _QUANTIZER.read(quantizer, "quantizer_kwargs of config.json")
    rule = quantizer.get("quantizer_type") or metadata.get("quantizer_type") or _RULES_OF_SEARCH[0]
    if rule not in _RULES_OF_SEARCH:
        known = " or ".join(map(repr, _RULES_OF_SEARCH))
        raise StateDictError(f"config.json has quantizer_type={rule!r}, and here it is {known}")
    channels = metadata.get("number_channels") or 1
    if channels != Moss.channels:
        raise StateDictError(
            f"config.json has number_channels={channels}, and the network here {Moss.channels}"
        )
    encoder, decoder = (_levels(weights, side) for side in ("encoder", "decoder"))
    for levels, side in ((encoder, "encoder_kwargs"), (decoder, "decoder_kwargs")):
        _agreed(levels, metadata.get(side), side)
    size, code_width = weights["quantizer.stages.0.entries"].shape
    return {
        **options,
        "encoder": tuple(encoder),
        "decoder": tuple(decoder),
        "latent": len(weights["quantizer.stages.0.up.bias"]),
        "codebooks": count(weights, r"quantizer\.stages\.\d+\.entries"),
        "size": size,
        "code_width": code_width,
    }


def _prepared(tensors: Weights) -> Weights:
    """Rename the maps beside the quantizer, whose number in the encoder depends on the levels."""
    levels = count(tensors, r"encoder\.\d+\.transformer\.layers\.0\.norm1\.weight")
    first = {"quantizer.input_proj.": f"encoder.{2 * levels}.linear."}
    first["quantizer.output_proj."] = "decoder.layers.0.linear."
    for old, new in first.items():
        tensors = {
            new + name.removeprefix(old) if name.startswith(old) else name: value
            for name, value in tensors.items()
        }
    return tensors


_PLACES = {"norm1": "0.norm", "norm2": "1.norm", "ls1": "0", "ls2": "1", "ff1": "1.up"}
_PLACES |= {"ff2": "1.down", "attn.in_proj": "0.qkv", "attn.out_proj": "0.out"}


def _in_level(match: re.Match[str]) -> str:
    """Return the name of a tensor in a transformer, or in a map beside it."""
    side, number, rest = match.groups()
    level = f"{side}.layers.{int(number) + (side == 'decoder')}.layers"
    if rest.startswith(("in_proj", "out_proj")):
        return f"{level}.{2 * rest.startswith('out')}.linear.weight"
    layer, name, end = re.findall(r"transformer\.layers\.(\d+)\.(.*)\.(\w+)$", rest)[0]
    half, _, tail = _PLACES[name].partition(".")
    return f"{level}.1.layers.{2 * int(layer) + int(half)}.{tail}{'.' if tail else ''}{end}"


_RULES: Sequence[Rule] = (
    (r"\.attn\.(in|out)_projs\.0\.", r".attn.\1_proj."),
    (r"\.attn\.in_proj_weight$", ".attn.in_proj.weight"),
    (
        rf"^(encoder|decoder)\.(\d+)\.((?:in_proj|out_proj|transformer\.layers\.\d+\."
        rf"(?:{'|'.join(map(re.escape, _PLACES))}))\..*)$",
        _in_level,
    ),
    (r"^encoder\.(\d+)\.linear\.", r"encoder.layers.\1.linear."),
    (r"^quantizer\.quantizers\.(\d+)\.in_proj\.", r"quantizer.stages.\1.down."),
    (r"^quantizer\.quantizers\.(\d+)\.out_proj\.", r"quantizer.stages.\1.up."),
    (r"^quantizer\.quantizers\.(\d+)\.codebook\.weight$", r"quantizer.stages.\1.entries"),
)


@torch.no_grad()
def _enliven(codec: Codec) -> None:
    """Set the weights of a new codec so that features keep their size, and its codes differ."""
    for module in codec.encoder.modules():
        if isinstance(module, Mix):
            nn.init.kaiming_normal_(module.linear.weight, nonlinearity="linear")
    for name, parameter in codec.named_parameters():
        if re.search(r"^encoder\.layers\.\d+\.linear\.bias$|\.down\.bias$", name):
            parameter.zero_()


class Moss(Codec):
    """A codec of transformers between patches, with codebooks searched by angle."""

    name = "moss"
    config_type = Config
    presets: ClassVar[Mapping[str, Config]] = {"moss": Config()}
    taxonomy: ClassVar[Mapping[str, Taxonomy]] = {
        "moss": Taxonomy(
            encoder="transformer",
            decoder="transformer",
            quantizer="RVQ",
            training="joint",
            domain="audio",
            licence="Apache-2.0",
            published="https://huggingface.co/OpenMOSS-Team/MOSS-Audio-Tokenizer",
        )
    }
    state_dict_adapters: ClassVar[Sequence[StateDictAdapter]] = (
        StateDictAdapter(
            source="vllm-omni 0.30.0, MossAudioTokenizerModel",
            marks=(
                "encoder.1.in_proj.weight",
                "decoder.0.transformer.layers.0.ls1.scale",
                "quantizer.quantizers.0.codebook.weight",
                "quantizer.input_proj.weight",
            ),
            prepare=_prepared,
            rules=_RULES,
            tensors=(
                (r"\.qkv\.weight$", partial(apart, head=HEAD)),
                (r"\.(down|up)\.weight$", squeeze),
                (r"^(encoder|decoder)\.layers\.\d+\.linear\.weight$", squeeze),
            ),
            sizes=_sizes,
        ),
    )

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()
        self.sample_rate = config.sample_rate
        self.frame_size = prod(level[0] for level in config.encoder)
        self.block = 32  # frames are long
        self.encoder = _encoder(config)
        self.quantizer = Rvq(
            config.latent,
            codebooks=config.codebooks,
            size=config.size,
            kind="factorised",
            width=config.code_width,
        )
        self.decoder = _decoder(config)
        _enliven(self)

    @property
    def decoded_rate(self) -> int:
        """See `Tokenizer.decoded_rate`."""
        size = prod(level[0] for level in self.config.decoder)
        return self.config.sample_rate * size // self.frame_size

    def weight_normed(self) -> Iterable[nn.Module]:
        """Return the maps beside the quantizer, and those of its codebooks."""
        last = self.encoder.get_submodule(f"layers.{2 * len(self.config.encoder)}.linear")
        ends = [last, self.decoder.get_submodule("layers.0.linear")]
        books = [m for m in self.quantizer.modules() if isinstance(m, Factorised)]
        return [*ends, *(m for book in books for m in (book.down, book.up))]
