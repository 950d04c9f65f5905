"""SNAC: speech at 24 kHz, 11.7 frames/s of 7 codes at three rates, 0.98 kbps; music at 2.6 kbps.

    wave -> strided convolutions -> latent 768 -> 3 x 4096 -> transposed convolutions, noise -> wave
                                   4 a frame      1 + 2 + 4 codes a frame

A frame spans one code of the coarsest codebook. Its codes are that one, then the two of the
second codebook, then the four of the third, each in time order.

Source: Siuzdak et al. 2024, arXiv:2410.14411; package snac 1.2.1. Codes are equal to the package's,
which also fills up the last frame with silence. Its decoder draws noise on every call; here the
noise depends on the position in the recording (`nn.layers.noise_block`).

SNAC for music (32 and 44.1 kHz) has a fourth codebook, 8 latents to a frame of 15 codes, and
attention within windows of 32 latents. The encoder fills the last window up with silence, as the
package does. Its package decodes the codes of that silence too; here they are left out, and the
decoder's last window is only as long as the recording.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import lcm, prod
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from audiotok._platform.shapes import Latent, Wave
from audiotok.codecs.models.base import Codec
from audiotok.codecs.taxonomy import Taxonomy
from audiotok.nn.autoencoder import convolutions
from audiotok.nn.layers.base import Layer, Pointwise, Residual, State
from audiotok.nn.layers.chain import Chain
from audiotok.nn.layers.conv import Conv
from audiotok.nn.layers.fold import Fold, Unfold
from audiotok.nn.layers.noise_block import NoiseBlock
from audiotok.nn.layers.snake import Snake
from audiotok.nn.layers.transposed_conv import TransposedConv
from audiotok.nn.layers.window_attention import WindowAttention
from audiotok.nn.pretrained.hub import PublishedWeights
from audiotok.nn.pretrained.options import Options, agreed
from audiotok.nn.pretrained.state_dicts import (
    Rule,
    StateDictAdapter,
    StateDictError,
    Weights,
    count,
    encoder_strides,
    in_one_chain,
    squeeze,
)
from audiotok.nn.quantizers.multi_scale_rvq import MultiScaleRvq
from audiotok.nn.quantizers.rvq import Factorised


@dataclass(frozen=True)
class Config:
    """Sizes of `Snac`; the defaults are SNAC 24 kHz."""

    sample_rate: int = 24000  # Hz
    encoder: int = 48  # width of the encoder at the audio rate; doubles at every stride
    decoder: int = 1024  # width of the decoder at the latents' rate; halves at every stride
    strides: Sequence[int] = (2, 4, 8, 8)  # strides of the encoder; their product is a latent
    spans: Sequence[int] = (4, 2, 1)  # latents in a code of each codebook; the first is the frame
    size: int = 4096  # entries in a codebook
    code_width: int = 8  # number of features in which a codebook is searched
    window: int = 0  # latents in a window of attention; 0 for no attention
    noise: float = 1.0  # gain of the decoder's noise; 0 for none

    def __post_init__(self) -> None:
        for name in ("strides", "spans"):  # TOML and JSON give lists
            object.__setattr__(self, name, tuple(getattr(self, name)))


_MUSIC = Config(
    sample_rate=32000,
    encoder=64,
    decoder=1536,
    strides=(2, 3, 8, 8),
    spans=(8, 4, 2, 1),
    window=32,
)
HEAD = 64  # features of an attention head, where there are so many


def _attention(config: Config, width: int) -> list[Layer]:
    """Return the attention of a network that has some."""
    heads = max(1, width // HEAD)
    return [WindowAttention(width, heads=heads, window=config.window)] if config.window else []


def _units(width: int) -> list[Layer]:
    """Return residual units like DAC's, but with depthwise convolutions."""
    return [
        Residual(
            Chain(
                [
                    Snake(width),
                    Conv(width, width, 7, dilation=dilation, groups=width, causal=False),
                    Snake(width),
                    Conv(width, width, 1, causal=False),
                ]
            )
        )
        for dilation in (1, 3, 9)
    ]


def _encoder(config: Config) -> Chain:
    """Build the encoder: conv, n x (residual units, Snake, strided conv), attention, conv."""
    width = config.encoder
    layers: list[Layer] = [Conv(1, width, 7, causal=False)]
    for stride in config.strides:
        layers += [*_units(width), Snake(width)]
        layers += [Conv(width, 2 * width, 2 * stride, stride=stride, causal=False)]
        width *= 2
    last = Conv(width, width, 7, groups=width, causal=False)
    return Chain([*layers, *_attention(config, width), last, Fold(width, config.spans[0])])


def _decoder(config: Config, latent: int) -> Chain:
    """Build the decoder.

    It is 2 x conv, attention, n x (Snake, transposed conv, noise, residual units), Snake, conv,
    tanh.
    """
    width = config.decoder
    layers: list[Layer] = [
        Unfold(config.spans[0]),
        Conv(latent, latent, 7, groups=latent, causal=False),
        Conv(latent, width, 1, causal=False),
        *_attention(config, width),
    ]
    for number, stride in enumerate(reversed(config.strides)):
        trim = -(-stride // 2), stride // 2
        up = TransposedConv(width, width // 2, 2 * stride, stride=stride, causal=False, trim=trim)
        layers += [Snake(width), up]
        width //= 2
        layers += [NoiseBlock(width, seed=number, gain=config.noise), *_units(width)]
    return Chain([*layers, Snake(width), Conv(width, 1, 7, causal=False), Pointwise(nn.Tanh())])


# Of the package's config.json.
_OPTIONS = Options(
    fields={
        "attn_window_size": "window",
        "codebook_dim": "code_width",
        "codebook_size": "size",
        "decoder_dim": "decoder",
        "encoder_dim": "encoder",
        "encoder_rates": "strides",
        "sampling_rate": "sample_rate",
        "vq_strides": "spans",
    },
    fixed={"depthwise": True, "noise": True},
    derived=("decoder_rates", "latent_dim"),
)


def _sizes(weights: Weights, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sizes of a codec with these weights."""
    options = _OPTIONS.read(metadata)
    for name in ("strides", "spans"):
        if name in options:
            options[name] = tuple(options[name])
    codebooks = count(weights, r"quantizer\.stages\.\d+\.entries")
    size, code_width = weights["quantizer.stages.0.entries"].shape
    spans = tuple(2**i for i in reversed(range(codebooks)))
    attends = "decoder.layers.3.qkv.weight" in weights
    sizes = {
        "encoder": len(weights["encoder.layers.0.conv.weight"]),
        "decoder": len(weights["decoder.layers.2.conv.weight"]),
        "strides": encoder_strides(weights),
        "size": size,
        "code_width": code_width,
    }
    window = options.pop("window", _MUSIC.window if attends else 0) or 0
    if attends != (window > 0):
        has = "attention" if attends else "no attention"
        raise StateDictError(f"config.json has attn_window_size {window}, and the weights {has}")
    return {"spans": spans, **agreed(sizes, options), "window": window}


# Our decoder begins with a layer that has no weights.
_CHAINS = {"encoder.block": ("encoder.layers", 0), "decoder.model": ("decoder.layers", 1)}
_RULES: Sequence[Rule] = (
    (r"^quantizer\.quantizers\.", "quantizer.stages."),
    (r"\.in_proj\.", ".down."),
    (r"\.out_proj\.", ".up."),
    (r"\.codebook\.weight$", ".entries"),
    (r"\.block\.(\d+)\.", r".body.layers.\1."),
    (r"\.to_(qkv|out)\.", r".\1."),
    (r"\.linear\.", ".conv."),  # in a noise block, whose convolution is a layer
    (r"(\.layers\.\d+(?:\.conv)?)\.(weight|bias)$", r"\1.conv.\2"),
)


_TAXONOMY = Taxonomy(
    encoder="DAC",
    decoder="DAC",
    quantizer="multi-scale RVQ",
    training="joint",
    licence="MIT",
)


def _adapter(mark: str) -> StateDictAdapter:
    """Return the adapter of networks that have a tensor of this name, and DAC's have not."""
    return StateDictAdapter(
        source="snac 1.2.1",
        marks=(
            "encoder.block.0.weight",
            "decoder.model.0.weight",
            "quantizer.quantizers.0.in_proj.weight",
            mark,
        ),
        prepare=partial(in_one_chain, chains=_CHAINS),
        ignored=(r"\.rel_pos\.inv_freq$",),
        rules=_RULES,
        tensors=((r"\.(down|up)\.weight$", squeeze),),
        sizes=_sizes,
    )


class Snac(Codec):
    """A codec of depthwise convolutions with Snake, and codebooks at several rates."""

    name = "snac"
    config_type = Config
    presets: ClassVar[Mapping[str, Config]] = {
        "snac_24khz": Config(),
        "snac_32khz": _MUSIC,
        "snac_44khz": replace(_MUSIC, sample_rate=44100),
    }
    taxonomy: ClassVar[Mapping[str, Taxonomy]] = {
        "snac_24khz": _TAXONOMY,
        "snac_32khz": replace(_TAXONOMY, domain="music"),
        "snac_44khz": replace(_TAXONOMY, domain="music"),
    }
    sources: ClassVar[Mapping[str, PublishedWeights]] = {
        name: PublishedWeights(file="pytorch_model.bin", repo=f"hubertsiuzdak/{name}")
        for name in presets
    }
    state_dict_adapters: ClassVar[Sequence[StateDictAdapter]] = (
        _adapter("decoder.model.2.block.2.linear.weight"),
        _adapter("decoder.model.2.to_qkv.weight"),
    )
    causal = False
    fills_up = False

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()
        self.sample_rate = config.sample_rate
        self.frame_size = self.end_unit = prod(config.strides) * config.spans[0]
        self.block = 16  # frames are long
        # Frames after which a frame and a window of attention end together.
        self.period = lcm(config.spans[0], config.window or 1) // config.spans[0]
        latent = config.encoder * 2 ** len(config.strides)
        self.encoder = _encoder(config)
        self.quantizer = MultiScaleRvq(
            latent * config.spans[0],
            spans=config.spans,
            size=config.size,
            width=config.code_width,
        )
        self.decoder = _decoder(config, latent)

    def start_latent(self, batch: int) -> State:
        """See `Network.start_latent`; with attention also the number of frames so far."""
        state = super().start_latent(batch)
        device = next(self.parameters()).device
        none = torch.zeros(batch, dtype=torch.int64, device=device)
        return (state, none) if self.config.window else state

    def step_latent(self, wave: Wave, state: State) -> tuple[Latent, State]:
        """See `Network.step_latent`."""
        if not self.config.window:
            return super().step_latent(wave, state)
        latent, after = super().step_latent(wave, state[0])
        return latent, (after, state[1] + wave.shape[2] // self.frame_size)

    def finish_latent(self, wave: Wave, state: State) -> Latent:
        """See `Network.finish_latent`; silence fills up the last frame and window of attention."""
        done = 0
        if self.config.window and state is not None:
            state, frames = state
            done = int(frames[0])  # the same in all signals that end together
        spare = -(done + self.frames(wave.shape[2])) % self.period
        latent = super().finish_latent(F.pad(wave, (0, spare * self.frame_size)), state)
        return latent[:, :, : latent.shape[2] - spare]

    def weight_normed(self) -> Iterable[nn.Module]:
        """Return all convolutions, and the projections of the codebooks."""
        books = [m for m in self.quantizer.modules() if isinstance(m, Factorised)]
        return [*convolutions(self), *(p for book in books for p in (book.down, book.up))]
