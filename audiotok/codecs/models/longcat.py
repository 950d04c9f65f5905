"""LongCat-Audio-Codec: speech at 16 kHz, 16.67 frames/s, one semantic code and 3 acoustic ones.

    wave -> Kaldi's bands -> transformer, 30 s at a time -> unit length --> 1 x 8192      semantic
         -> strided convolutions of DAC -----------------> latent 1024 --> 3 x 90 x 90    acoustic
         <- transposed convolutions <- 2 LSTMs <- [entries of its own 1280 | latent 1024] <-/

The decoder looks 3 frames ahead (180 ms) with its first convolution, and at 24 kHz with no other;
that of 16 kHz has convolutions that look ahead like DAC's besides. A prefix of the codes decodes:
without acoustic ones their latent is zero, which it was not trained for.

Recordings longer than 30 s, which its program does not take, are coded in semantic segments of
30 s by themselves; the acoustic codes go on over their borders.

Source: Meituan 2025, arXiv:2510.15227; repository meituan-longcat/LongCat-Audio-Codec, 98dd5e4.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiotok._platform.shapes import Features, Output
from audiotok.codecs.models.base import Codec
from audiotok.codecs.models.dac import PACKAGE, dac_decoder
from audiotok.codecs.taxonomy import Taxonomy
from audiotok.nn import kaldi
from audiotok.nn.autoencoder import convolutions
from audiotok.nn.layers.base import Layer, Norm, Pointwise, Span
from audiotok.nn.layers.chain import Chain
from audiotok.nn.layers.conv import Conv
from audiotok.nn.layers.lstm import Lstm
from audiotok.nn.layers.parallel import Parallel
from audiotok.nn.layers.residual_unit import ResidualUnit
from audiotok.nn.layers.segmented import Segmented
from audiotok.nn.layers.snake import Snake
from audiotok.nn.layers.strided_encoder import StridedEncoder
from audiotok.nn.layers.transformer_block import TransformerBlock
from audiotok.nn.layers.transposed_conv import TransposedConv
from audiotok.nn.linear import Linear
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
)
from audiotok.nn.quantizers.agrvq import Agrvq
from audiotok.nn.quantizers.base import SideBySide
from audiotok.nn.quantizers.rvq import Factorised
from audiotok.nn.reread import Reread
from audiotok.nn.skip_init import SkipInit

RATE = 16000  # Hz, of what is encoded
FRAME = 960  # samples of a frame at that rate
HEAD = 64  # features of an attention head; not told by the weights
PIXELS = 32  # features of a convolution over the spectrum
BANDS, LOW, HIGH = 80, 40.0, 7800.0  # mel bands, lowest and highest frequency
UNSEEN = 6 * kaldi.HOP - kaldi.WINDOW + 1  # samples at the end of a segment, by its windows
EPS = 2.0**-23  # least energy of a band, and least deviation


ACOUSTIC = "encoder.layers.1"  # name of the acoustic encoder
SEMANTIC = "encoder.layers.0"  # of the semantic one
UPS = "decoder.layers.4.layers"  # and of the convolutions of the decoder


@dataclass(frozen=True)
class Config:
    """Sizes of `Longcat`; the defaults are those of the decoder of 16 kHz."""

    encoder: int = 64  # width of the acoustic encoder at the audio rate; doubles at every stride
    strides: Sequence[int] = (4, 5, 6, 8)  # of the acoustic encoder
    latent: int = 1024  # width of the acoustic latent
    codebooks: int = 3  # acoustic codebooks
    size: int = 90  # entries in either half of one
    code_width: int = 8  # features in which it is searched
    semantic: int = 1280  # width of the semantic encoder
    layers: int = 26  # transformer blocks in it
    semantic_size: int = 8192  # entries of the semantic codebook
    segment: int = 500  # frames whose semantic codes see each other, and no other frame
    decoder: int = 1536  # width of the decoder at the frame rate; halves at every stride
    decoder_strides: Sequence[int] = (8, 6, 5, 4)

    def __post_init__(self) -> None:
        for name in ("strides", "decoder_strides"):  # TOML and JSON give a list
            object.__setattr__(self, name, tuple(getattr(self, name)))


class Semantic(Segmented):
    """Whole frames of waves `[b 1 t]` to features of unit length `[b semantic f]`, by segments."""

    mean: Tensor
    scale: Tensor

    def __init__(self, config: Config) -> None:
        width = config.semantic
        super().__init__(1, width, size=config.segment * FRAME, consumes=FRAME)
        self.register_buffer("mean", torch.zeros(BANDS))
        self.register_buffer("scale", torch.ones(BANDS))
        self.conv1 = nn.Conv2d(1, PIXELS, 3, stride=(2, 1))
        self.conv2 = nn.Conv2d(PIXELS, PIXELS, 3, stride=(3, 1))
        self.map = Linear(PIXELS * (BANDS - 4), width)
        self.norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(
            nn.Sequential(TransformerBlock(width, heads=width // HEAD), Norm(width))
            for _ in range(config.layers)
        )

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; the convolutions leave the last three windows of a segment."""
        begin, end = super().input_span(first, last)
        return begin, end - UNSEEN

    def segment(self, x: Features) -> Output:
        """See `Segmented.segment`."""
        mel = kaldi.log_energies(32767 * x[:, 0], LOW, HIGH, EPS, centred=False).to(x.dtype)
        mel = (mel - self.mean) * self.scale
        # Three steps of 10 ms before the first, and no later one, count as zeros.
        y = F.relu(self.conv1(F.pad(mel[:, None], (0, 0, 2, 0))))
        y = F.relu(self.conv2(F.pad(y, (0, 0, 2, 0))))
        y = self.norm(self.map(y.transpose(1, 2).flatten(2)))
        y = (y.shape[2] ** 0.5 * y + _positions(y)).transpose(1, 2)
        for block in self.blocks:
            y = block(y)
        return F.normalize(y, dim=1)


def _positions(x: Tensor) -> Tensor:
    """Return sines and cosines by turns `[f d]` for frames `[b f d]`, as their program has them."""
    _, frames, width = x.shape
    rates = torch.exp(torch.arange(0, width, 2).float() * -(math.log(10000.0) / width))
    angles = torch.arange(frames).float()[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], 2).flatten(1).to(x)


def _decoder(config: Config) -> Chain:
    """Build the decoder: 2 x (LSTM, norm), and convolutions up to samples."""
    width = config.semantic + config.latent
    memory: list[Layer] = []
    for _ in range(2):
        memory += [Lstm(width, depth=1, skip=False), Norm(width)]
    if math.prod(config.decoder_strides) != FRAME:
        return Chain([*memory, _causal(config, width)])
    upsampling = dac_decoder(config.decoder, config.decoder_strides, width)
    return Chain([*memory, Chain([*upsampling, Pointwise(nn.Tanh())])])


def _causal(config: Config, width: int) -> Chain:
    """Build the convolutions of the decoder of 24 kHz, of which only the first looks ahead."""
    layers: list[Layer] = [Conv(width, config.decoder, 7, causal=False)]
    width = config.decoder
    for stride in config.decoder_strides:
        up = TransposedConv(width, width // 2, stride, stride=stride)
        width //= 2
        layers += [Snake(2 * width), up]
        layers += [
            ResidualUnit(width, kernel=7, dilation=dilation, activation=Snake)
            for dilation in (1, 3, 9)
        ]
    return Chain([*layers, Snake(width), Conv(width, 1, 7), Pointwise(nn.Tanh())])


def _sizes(weights: Weights, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sizes of a codec with these weights."""
    stages = count(weights, rf"{re.escape(UPS)}\.\d+\.alpha") - 1
    kernels = [weights[f"{UPS}.{5 * i + 2}.conv.weight"].shape[2] for i in range(stages)]
    if 2 * math.prod(kernels) != 3 * FRAME:  # those of 24 kHz do not overlap
        kernels = [kernel // 2 for kernel in kernels]
    acoustic_encoder = {name.replace(f"{ACOUSTIC}.", "encoder."): x for name, x in weights.items()}
    semantic, acoustic = "quantizer.parts.0.stages.0.entries", "quantizer.parts.1.stages.0.halves.0"
    size, code_width = weights[f"{acoustic}.entries"].shape
    semantic_size, width = weights[semantic].shape
    return {
        "encoder": len(weights[f"{ACOUSTIC}.layers.0.conv.bias"]),
        "strides": encoder_strides(acoustic_encoder),
        "latent": weights[f"{acoustic}.down.weight"].shape[1],
        "codebooks": count(weights, r"quantizer\.parts\.1\.stages\.\d+\.halves\.0\.entries"),
        "size": size,
        "code_width": code_width,
        "semantic": width,
        "layers": count(weights, r"encoder\.layers\.0\.blocks\.\d+\.0\.query\.weight"),
        "semantic_size": semantic_size,
        "decoder": len(weights[f"{UPS}.0.conv.bias"]),
        "decoder_strides": tuple(kernels),
    }


def _prepared(tensors: Weights) -> Weights:
    """Split what is kept in one tensor, and count as the decoder of 16 kHz does."""
    if "decoder.model.7.weight" in tensors:  # that of 24 kHz has layers of padding in between
        tensors = {re.sub(PADDED, _without_padding, name): x for name, x in tensors.items()}
    parts: Weights = {}
    for name, tensor in tensors.items():
        stem, _, end = name.rpartition("in_proj_")
        if stem.endswith("self_attn."):
            for part, own in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                parts[f"{stem}{part}.{end}"] = own
        else:
            parts[name] = tensor
    codebook = parts.pop("semantic_tokenizer.kmeans.codebook")
    parts["quantizer.parts.0.stages.0.entries"] = codebook.T.contiguous()
    parts["quantizer.parts.0.stages.0.usage"] = torch.ones(codebook.shape[1])
    return parts


PADDED = r"^(decoder\.model\.(?:\d+\.block\.\d+\.block\.)?)([2347])(?=\.(?:weight|bias|alpha)$)"


def _without_padding(match: re.Match[str]) -> str:
    """Return the name of a layer without the layer of padding before it."""
    return f"{match[1]}{int(match[2]) - 1}"


_RULES: Sequence[Rule] = (
    *PACKAGE,
    (r"^encoder\.layers\.", f"{ACOUSTIC}.layers."),
    (r"^decoder\.layers\.", f"{UPS}."),
    (
        r"^decoder\.mem_layers\.0\.(lstm_list|ln)([12])\.(?:0\.)?",
        lambda m: f"decoder.layers.{2 * int(m[2]) - 2 + (m[1] == 'ln')}.{_NAMES[m[1]]}.",
    ),
    (
        r"^acoustic_quantizer\.quantizers\.(\d+)\.(in_proj|out_proj|codebook)_([ab])\.",
        lambda m: f"quantizer.parts.1.stages.{m[1]}.halves.{'ab'.index(m[3])}.{_NAMES[m[2]]}.",
    ),
    (r"\.entries\.weight$", ".entries"),
    (r"^semantic_dequantizer\.dequant\.weight$", "quantizer.parts.0.decoded.0"),
    (r"^semantic_tokenizer\.feature_extractor\.cmvn\.cmvn_", f"{SEMANTIC}."),
    (r"^semantic_tokenizer\.model\.subsampling\.(?:conv\.subsampling/)?", f"{SEMANTIC}."),
    (r"\.conv([01])\.(?=weight$|bias$)", lambda m: f".conv{int(m[1]) + 1}."),
    (r"\.affine\.", ".map."),
    (
        r"^semantic_tokenizer\.model\.encoder\.layers\.(\d+)\.(?:self_attn\.)?",
        rf"{SEMANTIC}.blocks.\1.0.",
    ),
    (r"\.0\.norm3\.", ".1.norm."),
    (r"\.0\.out_proj\.", ".0.out."),
    (r"\.0\.linear([12])\.", lambda m: f".0.{'up' if m[1] == '1' else 'down'}."),
)
_NAMES = {"lstm_list": "lstm", "ln": "norm", "codebook": "entries", "in_proj": "down"}
_NAMES |= {"out_proj": "up"}
_CMVN = "semantic_tokenizer.feature_extractor.cmvn.cmvn_"
_ENCODER = ("encoder.block.0.weight", "semantic_tokenizer.kmeans.codebook")
_DECODER = ("decoder.mem_layers.0.ln1.weight", "semantic_dequantizer.dequant.weight")


def _refuse_one_of_two(theirs: Weights) -> Weights:
    raise StateDictError(
        "one of two files, encoder and decoder: "
        "Longcat.joined(encoder, decoder, cmvn) of audiotok.codecs.models.longcat makes one of both"
    )


JOINED = StateDictAdapter(
    source="LongCat-Audio-Codec at 98dd5e4",
    marks=(*_ENCODER, *_DECODER),
    prepare=_prepared,
    ignored=(
        r"^semantic_tokenizer\.feature_extractor\.fbank\.",  # computed here
        r"\.self_attn\.key\.bias$",  # it shifts all scores of a query alike
    ),
    rules=_RULES,
    tensors=((r"^quantizer\.parts\.1\..*\.(down|up)\.weight$", squeeze),),
    sizes=_sizes,
)


class Longcat(Codec):
    """A codec of a semantic code beside acoustic codes, from a transformer and convolutions."""

    name = "longcat"
    config_type = Config
    presets: ClassVar[Mapping[str, Config]] = {
        "longcat_16k": Config(),
        "longcat_24k": Config(decoder_strides=(8, 6, 6, 5)),
    }
    taxonomy: ClassVar[Mapping[str, Taxonomy]] = dict.fromkeys(
        presets,
        Taxonomy(
            encoder="transformer, DAC",
            decoder="LSTM, DAC",
            quantizer="k-means, grouped RVQ",
            training="distilled",
            teacher="a speech recogniser of its own",
            licence="MIT",
            published="https://huggingface.co/meituan-longcat/LongCat-Audio-Codec",
        ),
    )
    state_dict_adapters: ClassVar[Sequence[StateDictAdapter]] = (
        JOINED,
        replace(JOINED, marks=_ENCODER, prepare=_refuse_one_of_two),
        replace(JOINED, marks=_DECODER, prepare=_refuse_one_of_two),
    )
    causal = False
    fills_up = False
    semantic_codebooks = 1
    sample_rate = RATE
    frame_size = end_unit = FRAME

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()
        self.block = 16  # frames are long
        self.period = config.segment
        acoustic = StridedEncoder(
            config.encoder, config.latent, strides=config.strides, activation=Snake
        )
        self.encoder = Parallel([Semantic(config), acoustic])
        semantic = Reread(config.semantic, codebooks=1, size=config.semantic_size)
        rest = Agrvq(
            config.latent, codebooks=config.codebooks, size=config.size, width=config.code_width
        )
        self.quantizer = SideBySide([(config.semantic, semantic), (config.latent, rest)])
        self.decoder = _decoder(config)

    @classmethod
    def joined(
        cls, encoder: str | Path, decoder: str | Path, cmvn: str | Path | None = None
    ) -> Longcat:
        """Return a codec of its published files, ready to use; `checkpoint.save` makes one of them.

        It has as many acoustic codebooks as the decoder knows.

        Args:
            encoder: LongCatAudioCodec_encoder.pt.
            decoder: LongCatAudioCodec_decoder_16k_4codebooks.pt, or another decoder.
            cmvn: LongCatAudioCodec_encoder_cmvn.npy; None if the encoder's file has it.

        Raises:
            StateDictError: a file holds other weights, or the decoder was made for codes of others.
            WeightsFileError: a file cannot be read.
        """
        parts = _read(encoder, _ENCODER), _read(decoder, _DECODER)
        books = [x for x in parts[1] if x.startswith("acoustic_quantizer.")]
        for name in books:
            if name not in parts[0] or not torch.equal(parts[0][name], parts[1][name]):
                raise StateDictError(f"{decoder}: made for other codes than {encoder}: {name}")
        theirs = {k: x for k, x in parts[0].items() if not k.startswith("acoustic_quantizer.")}
        theirs |= parts[1] | (_statistics(cmvn) if cmvn else {})
        weights, origin = JOINED.translate(theirs)
        with SkipInit():
            codec = cls(Config(**_sizes(weights, {})))
        check(weights, codec.state_dict(), origin)
        codec.load_state_dict(weights)
        codec.name = next((n for n, c in cls.presets.items() if c == codec.config), cls.name)
        return codec.eval().requires_grad_(False)

    @property
    def decoded_rate(self) -> int:
        """See `Tokenizer.decoded_rate`."""
        return RATE * math.prod(self.config.decoder_strides) // FRAME

    @property
    def parameters_trained(self) -> int:
        """See `Codec.parameters_trained`; keys have biases in its program, which change nothing."""
        return super().parameters_trained + self.config.layers * self.config.semantic

    def weight_normed(self) -> Iterable[nn.Module]:
        """Return convolutions of the acoustic encoder and the decoder, and codebooks' maps."""
        books = [m for m in self.quantizer.modules() if isinstance(m, Factorised)]
        return [*convolutions(self), *(m for book in books for m in (book.down, book.up))]


def _read(path: str | Path, marks: Sequence[str]) -> Weights:
    """Return the tensors in one of the published files."""
    theirs, _ = reader.read(path)
    for mark in marks:
        if mark not in theirs:
            raise StateDictError(f"{path}: no weights of {JOINED.source}: {mark} is missing")
    return theirs


def _statistics(path: str | Path) -> Weights:
    """Return the means of bands, and what makes their deviations one, from sums in a file."""
    try:
        sums = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise StateDictError(f"{path}: cannot be read ({error})") from None
    if sums.shape != (2, BANDS + 1):
        raise StateDictError(f"{path}: sums of shape {sums.shape}, not (2, {BANDS + 1})")
    mean, square = sums[:, :-1] / sums[0, -1]
    deviation = np.sqrt((square - mean * mean).astype(np.float32))
    scale = 1 / np.maximum(deviation, np.float32(EPS))
    return {
        f"{_CMVN}mean": torch.from_numpy(mean.astype(np.float32)),
        f"{_CMVN}scale": torch.from_numpy(scale),
    }
