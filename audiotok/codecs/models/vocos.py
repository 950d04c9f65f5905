"""Vocos: another decoder for EnCodec's tokens (24 kHz, up to 16 codebooks), with better sound.

    wave -> EnCodec's SEANet -> latent 128 -> 16 x 1024 -> ConvNeXt 384 -> iSTFT -> wave

It works at the frame rate. Its normalisations are scaled and shifted by the number of codebooks:
the published one was trained on 2, 4, 8 and 16 (1.5, 3, 6 and 12 kbps), and other numbers
take the row of the next one up. It decodes the tokens of `encodec`, and encodes the same codes.

Source: Siuzdak 2023, arXiv:2306.00814; package vocos 0.1.0. Encoder and codebooks are EnCodec's
(Défossez et al. 2022, arXiv:2210.13438), which the published file leaves out but for 16 codebooks.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiotok._platform.shapes import Codes, Latent, Wave
from audiotok.codecs.models.base import Codec, WrongTokensError
from audiotok.codecs.taxonomy import Taxonomy
from audiotok.nn.autoencoder import convolutions
from audiotok.nn.layers.absent import MissingEncoder
from audiotok.nn.layers.ada_norm import AdaLayerNorm
from audiotok.nn.layers.base import Layer, State
from audiotok.nn.layers.seanet import Config as Sizes
from audiotok.nn.layers.seanet import Seanet
from audiotok.nn.pretrained.hub import PublishedWeights
from audiotok.nn.pretrained.state_dicts import (
    SEANET,
    Rule,
    StateDictAdapter,
    Weights,
    count,
    encoder_strides,
    sample_rate,
    taps_first,
)
from audiotok.nn.quantizers.base import Quantized
from audiotok.nn.quantizers.rvq import Rvq
from audiotok.nn.vocos_chain import VocosChain

if TYPE_CHECKING:
    from audiotok.tokens.coded import Coded
    from audiotok.tokens.tokens import Header

WITHOUT = "these weights of 'vocos' only decode: encode with 'encodec_24khz'"


@dataclass(frozen=True)
class Config:
    """Sizes of `Vocos`; the defaults are those on EnCodec 24 kHz."""

    sample_rate: int = 24000  # Hz
    encoder: int = 32  # width of the encoder at the audio rate; doubles at every stride
    strides: Sequence[int] = (2, 4, 5, 8)  # strides of the encoder; the frame is their product
    lstm: int = 2  # layers of the encoder's LSTM
    latent: int = 128  # width of the latent that is quantized
    size: int = 1024  # entries in a codebook
    codebooks: Sequence[int] = (2, 4, 8, 16)  # number of codebooks of each condition; last is all
    decoder: int = 384  # width of the decoder
    blocks: int = 8  # ConvNeXt blocks in it
    expansion: int = 3  # hidden width of a block over its width
    window: int = 4  # window of the inverse Fourier transform, in frames
    encodes: bool = True  # whether it has EnCodec's encoder; the published file has none
    encodec: str = ""  # fingerprint of the EnCodec whose tokens it decodes; any if empty

    def __post_init__(self) -> None:
        for name in ("strides", "codebooks"):  # TOML and JSON give lists
            object.__setattr__(self, name, tuple(getattr(self, name)))


class _Counting(Rvq):
    """Codebooks whose latents have one feature more: the number of codebooks in use."""

    def forward(self, latent: Latent, keep: Tensor | None = None) -> Quantized:
        """See `Quantizer.forward`."""
        quantized = super().forward(latent, keep)
        counts = latent.new_full((len(latent),), self.codebooks) if keep is None else keep
        return replace(quantized, latent=_counted(quantized.latent, counts))

    def decode(self, codes: Codes) -> Latent:
        """See `Quantizer.decode`."""
        latent = super().decode(codes)
        return _counted(latent, latent.new_full((len(codes),), codes.shape[1]))

    def table(self, codebook: int) -> Tensor:
        """See `Quantizer.table`; every code counts as one."""
        return F.pad(super().table(codebook), (0, 1), value=1.0)


def _counted(latent: Tensor, codebooks: Tensor) -> Latent:
    """Return latents with the number of codebooks appended as a feature."""
    feature = codebooks.to(latent)[:, None, None].expand(-1, 1, latent.shape[2])
    return torch.cat([latent, feature], 1)


def _counts(latent: Latent, before: Tensor) -> Tensor:
    """Return the feature that `_counted` appended, `[b]`; `before` if there is no frame."""
    return latent[:, -1, 0] if latent.shape[2] else before


def _under(module: nn.Module, condition: int) -> nn.Module:
    """Return a copy of a module under a condition, sharing all weights with it.

    Threads may need different conditions at the same time.
    """
    twin = copy.copy(module)
    twin._modules = {n: m and _under(m, condition) for n, m in module._modules.items()}
    if isinstance(twin, AdaLayerNorm):
        twin.condition = condition
    return twin


def _sizes(weights: Weights, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sizes of a codec with these weights."""
    width, latent, _ = weights["decoder.layers.0.conv.weight"].shape
    blocks = count(weights, r"decoder\.layers\.\d+\.depthwise\.weight")
    first = weights.get("encoder.layers.0.conv.weight")
    strides = Config.strides if first is None else encoder_strides(weights)
    codebooks = count(weights, r"quantizer\.stages\.\d+\.entries")
    conditions = len(weights["decoder.layers.1.norm.scale"])
    window = len(weights[f"decoder.layers.{blocks + 3}.linear.weight"]) - 2
    return {
        **sample_rate(metadata),
        **({} if first is None else {"encoder": len(first)}),
        "strides": strides,
        "latent": latent,
        "size": len(weights["quantizer.stages.0.entries"]),
        "codebooks": tuple(codebooks >> i for i in reversed(range(conditions))),
        "decoder": width,
        "blocks": blocks,
        "expansion": len(weights["decoder.layers.2.up.weight"]) // width,
        "window": window // prod(strides),
        "encodes": first is not None,
    }


def _prepared(tensors: Weights) -> Weights:
    """Split the table of all codebooks, and rename the layers after the ConvNeXt blocks.

    The table is not changed in training; each codebook has 1024 entries, as EnCodec's have, unless
    EnCodec's own codebooks tell otherwise.
    """
    table = tensors.pop("feature_extractor.codebook_weights")
    first = tensors.get("feature_extractor.encodec.quantizer.vq.layers.0._codebook.embed")
    size = Config.size if first is None else len(first)
    for number, entries in enumerate(table.split(size)):
        tensors[f"quantizer.stages.{number}.entries"] = entries
        tensors[f"quantizer.stages.{number}.usage"] = torch.ones(len(entries))
    last = 2 + count(tensors, r"backbone\.convnext\.\d+\.gamma")  # the layer after the blocks
    ends = {"backbone.final_layer_norm": f"{last}.norm", "head.out": f"{last + 1}.linear"}
    for old, new in ends.items():
        for kind in ("weight", "bias"):
            tensors[f"decoder.layers.{new}.{kind}"] = tensors.pop(f"{old}.{kind}")
    return tensors


_RULES: Sequence[Rule] = (
    (r"^feature_extractor\.encodec\.encoder\.", "encoder."),
    *SEANET,
    (r"\.(scale|shift)\.weight$", r".\1"),
    (r"^backbone\.embed\.", "decoder.layers.0.conv."),
    (r"^backbone\.norm\.", "decoder.layers.1.norm."),
    (r"^backbone\.convnext\.(\d+)\.", lambda m: f"decoder.layers.{int(m[1]) + 2}."),
    (r"\.dwconv\.", ".depthwise."),
    (r"\.pwconv1\.", ".up."),
    (r"\.pwconv2\.", ".down."),
    (r"\.gamma$", ".scale"),
)


class Vocos(Codec):
    """A codec of EnCodec's encoder and codebooks, and a vocoder at the frame rate."""

    name = "vocos"
    config_type = Config
    presets: ClassVar[Mapping[str, Config]] = {"vocos_encodec_24khz": Config(encodes=False)}
    taxonomy: ClassVar[Mapping[str, Taxonomy]] = {
        "vocos_encodec_24khz": Taxonomy(
            encoder="EnCodec",
            decoder="Vocos",
            quantizer="RVQ",
            training="post-hoc",
            teacher="EnCodec",
            domain="audio",
            licence="MIT",
        ),
    }
    sources: ClassVar[Mapping[str, PublishedWeights]] = {
        "vocos_encodec_24khz": PublishedWeights(
            file="pytorch_model.bin", repo="charactr/vocos-encodec-24khz"
        )
    }
    state_dict_adapters: ClassVar[Sequence[StateDictAdapter]] = (
        StateDictAdapter(
            source="vocos 0.1.0",
            marks=(
                "feature_extractor.codebook_weights",
                "backbone.embed.weight",
                "backbone.norm.scale.weight",
                "head.out.weight",
            ),
            prepare=_prepared,
            # EnCodec's decoder, and its codebooks, which the table repeats.
            ignored=(r"^head\.istft\.", r"^feature_extractor\.encodec\.(decoder|quantizer)\."),
            rules=_RULES,
            tensors=((r"\.depthwise\.weight$", taps_first),),
            sizes=_sizes,
        ),
    )
    causal = False
    fills_up = False

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()
        self.sample_rate = config.sample_rate
        self.frame_size = prod(config.strides)
        sizes = Sizes(
            latent=config.latent,
            width=config.encoder,
            strides=tuple(config.strides),
            lstm=config.lstm,
        )
        # The encoder's last convolution runs on frames, and mirrors the first.
        self.first_frames = sizes.last_kernel
        self.encoder = (
            Seanet.encoder(sizes) if config.encodes else MissingEncoder(self.frame_size, WITHOUT)
        )
        self.quantizer = _Counting(config.latent, codebooks=config.codebooks[-1], size=config.size)
        self.decoder = VocosChain(
            config.latent,
            config.decoder,
            blocks=config.blocks,
            expansion=config.expansion,
            hop=self.frame_size,
            window=config.window * self.frame_size,
            conditions=len(config.codebooks),
        )

    def check_tokens(self, tokens: Coded | Header) -> None:
        """See `Tokenizer.check_tokens`; EnCodec's tokens are accepted too.

        They must not be of more codebooks than this codec has.
        """
        if not tokens.codec.startswith("encodec"):
            return super().check_tokens(tokens)
        config, most = self.config, self.codebooks
        if config.encodec and tokens.fingerprint != config.encodec:
            why = f"{tokens.fingerprint}; this vocos is for {config.encodec}"
            raise WrongTokensError(f"tokens of other weights of {tokens.codec!r} ({why})")
        if (tokens.sample_rate, tokens.frame_size) != (self.sample_rate, self.frame_size):
            raise WrongTokensError(f"{tokens.codec!r} is of another rate or frame than vocos")
        if len(tokens.sizes) > most:
            why = f"tokens of {len(tokens.sizes)} codebooks; vocos decodes up to {most}"
            raise WrongTokensError(f"{why}: give it tokens.first({most})")
        return None

    def start_wave(self, batch: int) -> State:
        """Return the decoder's state, and the number of codebooks of each recording's codes."""
        return self.decoder.start(batch), torch.zeros(batch, device=self.device)

    def step_wave(self, latent: Latent, state: State, frames: int) -> tuple[Wave, State]:
        """See `Network.step_wave`."""
        counts = _counts(latent, state[1])
        wave, decoder = self._for(counts).step(latent[:, :-1], state[0])
        return wave, (decoder, counts)

    def finish_wave(self, latent: Latent, state: State) -> Wave:
        """See `Network.finish_wave`; in training recordings may differ in codebooks."""
        if state is not None:
            return self._for(_counts(latent, state[1])).finish(latent[:, :-1], state[0])
        counts = latent[:, -1, 0]
        if counts.unique().numel() > 1:
            return torch.cat([self.finish_wave(one, None) for one in latent.split(1)])
        return self._for(counts)(latent[:, :-1])

    def _for(self, counts: Tensor) -> Layer:
        """Return the decoder under the condition of these counts, the same for all recordings."""
        count = int(counts[0])
        condition = next(i for i, most in enumerate(self.config.codebooks) if count <= most)
        return cast("Layer", _under(self.decoder, condition))

    def weight_normed(self) -> Iterable[nn.Module]:
        """Return the convolutions of the encoder, if it exists."""
        return convolutions(self.encoder)
