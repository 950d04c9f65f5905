"""DualCodec: speech at 24 kHz, a semantic code and residual acoustic ones, 12.5 or 25 frames/s.

    wave -> 16 kHz -> 17 blocks of w2v-BERT 2.0 -> means of 4 -> ConvNeXt -> 768 -> 1 x 16384
         -> DAC's encoder -> latent 1024, less what the semantic code tells --> 7 x 4096
         <- DAC's decoder <- [the sum of both] <- ConvNeXt <- semantic code <-/

The acoustic codebooks code what ConvNeXt blocks do not make of the semantic codes so far. w2v-BERT
sees the whole recording, so it cannot stream; the decoder sees a bounded span of codes.

Codes are those of the program, which drops the last one or two frames of a recording: w2v-BERT has
no features of its end, of which the last is repeated here. In one of eight lengths the program's
last frame counts a masked feature in, and here the last is repeated there too. Samples are those of
the program but in the last 1.5 frames, as in `dac`. The program's `Inference` computes w2v-BERT in
half precision, and here it is in single.

Source: Li et al. 2025, arXiv:2505.13000; package dualcodec 0.4.2.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiotok._platform.errors import InputError
from audiotok._platform.shapes import Features, Latent, Output, Wave
from audiotok.audio import _torchaudio
from audiotok.codecs.models.base import Codec
from audiotok.codecs.models.dac import PACKAGE, dac_decoder
from audiotok.codecs.taxonomy import Taxonomy
from audiotok.data.features import w2v_bert
from audiotok.data.features.w2v_bert import W2vBert
from audiotok.nn.autoencoder import convolutions
from audiotok.nn.layers.base import Layer, Mix, Pointwise, Span, State, WholeClip
from audiotok.nn.layers.chain import Chain
from audiotok.nn.layers.convnext import Convnext
from audiotok.nn.layers.snake import Snake
from audiotok.nn.layers.strided_encoder import StridedEncoder
from audiotok.nn.pretrained import reader
from audiotok.nn.pretrained.state_dicts import (
    Rule,
    StateDictAdapter,
    StateDictError,
    Weights,
    check,
    count,
    encoder_strides,
    squeeze,
    taps_first,
)
from audiotok.nn.quantizers.base import SideBySide
from audiotok.nn.quantizers.rvq import Factorised, Rvq
from audiotok.nn.skip_init import SkipInit

RATE = 24000  # Hz
SEMANTIC_RATE = W2vBert.sample_rate  # Hz, of what w2v-BERT hears
HOP = 2 * w2v_bert.HOP  # samples in a feature of it


@dataclass(frozen=True)
class Config:
    """Sizes of `Dualcodec`; the defaults are those of 12.5 frames/s."""

    encoder: int = 32  # width of the encoder at the audio rate; doubles at every stride
    decoder: int = 1536  # width of the decoder at the frame rate; halves at every stride
    strides: Sequence[int] = (4, 5, 6, 8, 2)  # strides of the encoder; the frame is their product
    latent: int = 1024  # width of the latent that is decoded
    codebooks: int = 7  # acoustic codebooks
    size: int = 4096  # entries in one of them
    code_width: int = 8  # number of features in which a codebook is searched
    semantic_size: int = 16384  # entries of the semantic codebook
    semantic: int = 768  # width of the latent that it quantizes
    blocks: int = 4  # ConvNeXt blocks on either side of it
    hidden: int = 2048  # width inside a perceptron of them
    teacher: int = 1024  # width of w2v-BERT
    teacher_blocks: int = 17  # its first blocks, which are used
    teacher_heads: int = 16  # its attention heads
    teacher_hidden: int = 4096  # width inside a feed-forward module of it
    teacher_kernel: int = 31  # frames in a convolution of it
    teacher_before: int = 64  # frames back from which on all distances count as one
    teacher_after: int = 8  # frames ahead from which on all distances count as one

    def __post_init__(self) -> None:
        object.__setattr__(self, "strides", tuple(self.strides))  # TOML and JSON give a list
        if prod(self.strides) * SEMANTIC_RATE % (HOP * RATE):
            raise InputError(
                f"strides={self.strides}: a frame of {prod(self.strides)} samples at {RATE} Hz is"
                f" no whole number of w2v-BERT's features, of {HOP} samples at {SEMANTIC_RATE} Hz"
            )


def _blocks(config: Config) -> list[Layer]:
    """Return the ConvNeXt blocks on one side of the semantic codebook."""
    norm = partial(nn.LayerNorm, eps=1e-6)
    width, hidden = config.semantic, config.hidden
    return [Convnext(width, hidden=hidden, scale=None, norm=norm) for _ in range(config.blocks)]


class _Encoder(WholeClip):
    """Waves `[b 1 t]` to features of what is said, and of how it sounds, for each frame begun."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__(1, config.semantic + config.latent)
        self.consumes = prod(config.strides)
        self.pool = self.consumes * SEMANTIC_RATE // (HOP * RATE)  # features in a frame
        self.teacher = W2vBert(
            width=config.teacher,
            layers=config.teacher_blocks,
            heads=config.teacher_heads,
            hidden=config.teacher_hidden,
            kernel=config.teacher_kernel,
            before=config.teacher_before,
            after=config.teacher_after,
        ).requires_grad_(False)
        self.register_buffer("mean", torch.zeros(config.teacher))
        self.register_buffer("deviation", torch.ones(config.teacher))
        self.adapter = Chain([Mix(config.teacher, config.semantic), *_blocks(config)])
        self.acoustic = StridedEncoder(
            config.encoder, config.latent, strides=config.strides, activation=Snake
        )

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`; silence follows the end, for the convolutions only."""
        frames = -(-x.shape[2] // self.consumes)
        filled = F.pad(x, (0, frames * self.consumes - x.shape[2]))
        acoustic = self.acoustic.finish(filled, self.acoustic.start(len(x)))  # in pieces
        return torch.cat([self.adapter(self._features(x[:, 0], frames)), acoustic], 1)

    def _features(self, wave: Tensor, frames: int) -> Output:
        """Return means of w2v-BERT's features `[b teacher frames]`, the last of them repeated."""
        resample = _torchaudio.load().functional.resample
        states = self.teacher.states(resample(wave, RATE, SEMANTIC_RATE))
        (last,) = deque(states, maxlen=1)
        features = ((last - self.mean) / self.deviation).transpose(1, 2)
        short = frames * self.pool - features.shape[2]
        features = torch.cat([features, *[features[:, :, -1:]] * short], 2)
        return F.avg_pool1d(features, self.pool)


class _Sum(Layer):
    """Decoded codes `[b semantic+latent f]` to the latent that both make `[b latent f]`."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.widths = config.semantic, config.latent
        self.semantic = Chain([*_blocks(config), Mix(config.semantic, config.latent)])

    def start(self, batch: int) -> State:
        """See `Layer.start`; the state of the ConvNeXt blocks."""
        return self.semantic.start(batch)

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Layer.step`."""
        semantic, acoustic = x.split(self.widths, 1)
        y, state = self.semantic.step(semantic, state)
        return y + acoustic, state

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; the span of the ConvNeXt blocks."""
        return self.semantic.input_span(first, last)


# -- names of the package --------------------------------------------------------------------------


def _sizes(weights: Weights, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sizes of a codec with these weights, but for w2v-BERT's."""
    own = "encoder.acoustic."
    acoustic = {f"encoder.{k.removeprefix(own)}": v for k, v in weights.items() if own in k}
    books = r"quantizer\.parts\.1\.stages\.\d+\.entries"
    size, code_width = weights["quantizer.parts.1.stages.0.entries"].shape
    semantic, teacher = weights["encoder.adapter.layers.0.linear.weight"].shape
    return {
        "encoder": len(weights[f"{own}layers.0.conv.bias"]),
        "decoder": len(weights["decoder.layers.0.conv.bias"]),
        "strides": encoder_strides(acoustic),
        "latent": weights["quantizer.parts.1.stages.0.down.weight"].shape[1],
        "codebooks": count(weights, books),
        "size": size,
        "code_width": code_width,
        "semantic_size": len(weights["quantizer.parts.0.stages.0.entries"]),
        "semantic": semantic,
        "blocks": count(weights, r"sum\.semantic\.layers\.\d+\.depthwise\.weight"),
        "hidden": len(weights["sum.semantic.layers.0.up.weight"]),
        "teacher": teacher,
    }


def _alone(theirs: Weights) -> Weights:
    raise StateDictError(
        "the codec alone, which needs w2v-BERT 2.0 and statistics of its features: "
        "Dualcodec.joined(codec, w2v_bert, statistics) of audiotok.codecs.models.dualcodec makes "
        "one of all"
    )


_CONVNEXT = {"dwconv": "depthwise", "pwconv1": "up", "pwconv2": "down", "norm": "norm"}
_RULES: Sequence[Rule] = (
    (r"^dac\.", ""),
    *PACKAGE,
    (r"^encoder\.layers\.", "encoder.acoustic.layers."),
    (r"^quantizer\.quantizers\.", "quantizer.parts.1.stages."),
    (r"^semantic_vq\.quantizers\.", "quantizer.parts.0.stages."),
    (r"\.in_proj\.", ".down."),
    (r"\.out_proj\.", ".up."),
    (r"\.codebook\.weight$", ".entries"),
    (r"^convnext_encoder\.", "encoder.adapter.layers."),
    (r"^convnext_decoder\.", "sum.semantic.layers."),
    (r"^((?:encoder\.adapter|sum\.semantic)\.layers\.\d+)\.(?=weight$|bias$)", r"\1.linear."),
    (rf"\.({'|'.join(_CONVNEXT)})\.", lambda match: f".{_CONVNEXT[match[1]]}."),
)
CODEC = StateDictAdapter(
    source="dualcodec 0.4.2",
    marks=(
        "dac.encoder.block.0.weight",
        "convnext_encoder.0.weight",
        "semantic_vq.quantizers.0.codebook.weight",
    ),
    rules=_RULES,
    tensors=(
        (r"\.(linear|down|up)\.weight$", squeeze),
        (r"\.depthwise\.weight$", taps_first),
    ),
    sizes=_sizes,
)


class Dualcodec(Codec):
    """A codec of a semantic code of w2v-BERT's features, and of what DAC's encoder adds to it."""

    name = "dualcodec"
    config_type = Config
    presets: ClassVar[Mapping[str, Config]] = {
        "dualcodec": Config(),
        "dualcodec_25hz": Config(encoder=64, strides=(4, 5, 6, 8), codebooks=11, size=1024),
    }
    taxonomy: ClassVar[Mapping[str, Taxonomy]] = dict.fromkeys(
        presets,
        Taxonomy(
            encoder="w2v-BERT 2.0 and DAC",
            decoder="ConvNeXt and DAC",
            quantizer="RVQ",
            training="distilled",
            teacher="w2v-BERT 2.0",
            licence="unstated; the package's, MIT",
            published="https://huggingface.co/amphion/dualcodec",
        ),
    )
    state_dict_adapters: ClassVar[Sequence[StateDictAdapter]] = (replace(CODEC, prepare=_alone),)
    causal = False
    fills_up = False
    latents_of_codes = True
    semantic_codebooks = 1
    sample_rate = RATE

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()
        self.frame_size = prod(config.strides)
        self.block = 40960 // self.frame_size
        self.encoder = _Encoder(config)
        books = {"kind": "factorised", "width": config.code_width}
        semantic = Rvq(config.semantic, codebooks=1, size=config.semantic_size, **books)
        acoustic = Rvq(config.latent, codebooks=config.codebooks, size=config.size, **books)
        self.quantizer = SideBySide([(config.semantic, semantic), (config.latent, acoustic)])
        self.sum = _Sum(config)
        decoder = dac_decoder(config.decoder, config.strides[::-1], config.latent)
        self.decoder = Chain([*decoder, Pointwise(nn.Tanh())])

    @classmethod
    def joined(
        cls,
        codec: str | Path,
        w2v_bert: str | Path,
        statistics: str | Path,
        *,
        blocks: int = Config.teacher_blocks,
    ) -> Dualcodec:
        """Return a codec of its three files, ready to use; `checkpoint.save` makes one of them.

        Args:
            codec: weights of the codec, dualcodec_12hz_16384_4096.safetensors or of 25 Hz.
            w2v_bert: w2v-BERT 2.0, as `W2vBert.load` takes it.
            statistics: mean and variance of its features, w2vbert2_mean_var_stats_emilia.pt.
            blocks: number of its first blocks that are used.

        Raises:
            StateDictError: a file holds other weights, or they do not fit each other.
            WeightsFileError: the first or the last file cannot be read.
            TeacherError: the second cannot.
        """
        theirs, metadata = reader.read(codec)
        if not CODEC.knows(theirs):
            raise StateDictError(f"{codec}: no weights of {CODEC.source}")
        weights, origin = CODEC.translate(theirs)
        sizes = _sizes(weights, metadata)
        teacher = W2vBert.load(w2v_bert)
        if teacher.width != sizes["teacher"] or teacher.layers < blocks:
            raise StateDictError(
                f"{w2v_bert}: {teacher.layers} blocks of {teacher.width} features, where {codec}"
                f" takes {blocks} of {sizes['teacher']}"
            )
        options = {k: v for k, v in (teacher.sizes or {}).items() if k not in ("width", "layers")}
        own = {f"teacher_{name}": value for name, value in options.items()}
        with SkipInit():
            joined = cls(Config(**sizes, **own, teacher_blocks=blocks))
        for key, value in teacher.state_dict().items():
            block = re.match(r"blocks\.(\d+)\.", key)
            if not block or int(block[1]) < blocks:
                weights[f"encoder.teacher.{key}"] = value
        weights |= _statistics(statistics, teacher.width)
        check(weights, joined.state_dict(), origin)
        joined.load_state_dict(weights)
        joined.name = next((n for n, c in cls.presets.items() if c == joined.config), cls.name)
        return joined.eval().requires_grad_(False)

    def ends(self) -> tuple[Layer, Layer]:
        """See `Network.ends`; the decoder begins with the sum, which encoding needs too."""
        return self.encoder, Chain([self.sum, self.decoder])

    def finish_latent(self, wave: Wave, state: State) -> Latent:
        """See `Network.finish_latent`; acoustic latents are less what semantic codes make."""
        latent = super().finish_latent(wave, state)
        semantic, acoustic = latent.split(self.sum.widths, 1)
        coded = self.quantizer.decode(self.quantizer.encode(latent, 1))
        return torch.cat([semantic, acoustic - self.sum(coded)], 1)

    def weight_normed(self) -> Iterable[nn.Module]:
        """Return DAC's convolutions, maps at the ends of ConvNeXt blocks, and codebooks' maps."""
        maps = [m.linear for m in self.modules() if isinstance(m, Mix)]
        books = [m for m in self.quantizer.modules() if isinstance(m, Factorised)]
        parts = (self.encoder.get_submodule("acoustic"), self.decoder)
        convs = [conv for part in parts for conv in convolutions(part)]
        return [*convs, *maps, *(m for book in books for m in (book.down, book.up))]

    @property
    def parameters_trained(self) -> int:
        """See `Codec.parameters_trained`; those of the frozen w2v-BERT do not count."""
        frozen = self.encoder.get_submodule("teacher")
        return super().parameters_trained - sum(p.numel() for p in frozen.parameters())


def _statistics(path: str | Path, width: int) -> Weights:
    """Return mean and deviation of w2v-BERT's features, of a file of mean and variance."""
    theirs, _ = reader.read(path)
    for name in ("mean", "var"):
        if name not in theirs or theirs[name].numel() != width:
            raise StateDictError(f"{path}: no {name!r} of {width} features of w2v-BERT")
    mean, variance = theirs["mean"].flatten(), theirs["var"].flatten()
    return {"encoder.mean": mean, "encoder.deviation": variance.sqrt()}
