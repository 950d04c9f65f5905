"""TaDiCodec's tokenizer: speech at 24 kHz as one code of 14 bits for 160 ms, 87.5 bit/s.

    wave -> log-mel, 50 Hz -> transformer over the clip -> every 8 averaged -> 14 signs

The encoder sees the whole recording. What decodes is a part of its own (`decoders.mel_flow`), as it
is given the transcript and the voice of a prompt beside the codes: what it reconstructs is not told
by the codes alone. A recording whose last frame is begun is filled up with silence; the authors'
program leaves out up to 7 steps of the spectrum.

Source: Wang et al. 2025, arXiv:2508.16790; repository HeCheng0625/Diffusion-Speech-Tokenizer at
cc660a8, whose codes these are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from audiotok._platform.errors import InputError
from audiotok._platform.shapes import Features, Output
from audiotok.codecs.models.base import Codec
from audiotok.codecs.taxonomy import Taxonomy
from audiotok.nn.layers.absent import Absent
from audiotok.nn.layers.base import Mix, WholeClip
from audiotok.nn.layers.centred_mel import slaney_bank
from audiotok.nn.layers.chain import Chain
from audiotok.nn.layers.clip_transformer import ClipTransformer
from audiotok.nn.layers.rms_norm import RmsNorm
from audiotok.nn.pretrained.hub import PublishedWeights
from audiotok.nn.pretrained.state_dicts import Rule, StateDictAdapter, Weights, count
from audiotok.nn.quantizers.bsq import Bsq
from audiotok.nn.spectrogram import hann

HOP, WINDOW = 480, 1920  # samples at 24 kHz
POOL = 8  # steps of the spectrum in a frame
MEAN, DEVIATION = -4.92, 8.14**0.5  # of natural logarithms of mel magnitudes of speech
HEAD = 64  # features of an attention head


@dataclass(frozen=True)
class Config:
    """Sizes of `Tadicodec`; the defaults are the published ones."""

    bands: int = 128  # mel bands
    width: int = 1024  # width of the transformer
    blocks: int = 8  # its blocks
    heads: int = 16  # attention heads
    bits: int = 14  # bits of a code

    def __post_init__(self) -> None:
        if min(self.bands, self.width, self.blocks, self.heads) < 1 or self.width % self.heads:
            raise InputError(
                "bands, width, blocks and heads: at least 1, and heads share the width"
            )


class Encoder(WholeClip):
    """Waves `[b 1 t]` to latents `[b width f]`, one for each frame begun."""

    bank: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__(1, config.width)
        width = config.width
        self.consumes = POOL * HOP

        def norm(features: int) -> RmsNorm:
            return RmsNorm(features, affine=False, eps=1e-6)

        self.into = Mix(config.bands, width)
        blocks = ClipTransformer(
            width,
            blocks=config.blocks,
            heads=config.heads,
            hidden=4 * width,
            norm=norm,
            rotary=True,
            gated=True,
        )
        self.blocks = Chain([*blocks, norm(width)])
        bank = torch.from_numpy(slaney_bank(50 * HOP, WINDOW, config.bands, 0.0, 25.0 * HOP))
        self.register_buffer("bank", bank, persistent=False)

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`."""
        wave = F.pad(x[:, 0], (0, -x.shape[2] % (POOL * HOP)))
        return self.pooled(self.normalised(wave))

    def pooled(self, spectrum: Tensor) -> Tensor:
        """Return latents `[b width f]` of normalised spectra `[b bands 8*f]`."""
        y = self.blocks(self.into(spectrum))
        middle = POOL // 2  # a frame is what linear interpolation gives there
        return (y[:, :, middle - 1 :: POOL] + y[:, :, middle::POOL]) / 2

    def normalised(self, wave: Tensor) -> Tensor:
        """Return the spectrum of waves `[b t]`, of mean 0 and deviation 1 in speech."""
        return (self.spectrum(wave) - MEAN) / DEVIATION

    def spectrum(self, wave: Tensor) -> Tensor:
        """Return natural logarithms of mel magnitudes `[b bands t/480]` of waves `[b t]`."""
        margin = (WINDOW - HOP) // 2
        wave = F.pad(wave[:, None], (margin, margin), mode="reflect")[:, 0]
        window = hann(WINDOW, wave.device)
        bins = torch.stft(wave, WINDOW, HOP, window=window, center=False, return_complex=True)
        magnitude = (bins.real.square() + bins.imag.square() + 1e-9).sqrt()
        # A matrix product for each recording, so that its last bits do not depend on the batch.
        return torch.stack([self.bank @ one for one in magnitude]).clamp(min=1e-5).log()


def _sizes(weights: Weights, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sizes of a codec with these weights."""
    width, bands = weights["encoder.into.linear.weight"].shape[:2]
    parts = count(weights, r"encoder\.blocks\.layers\.\d+\.body\.layers\.1\.(qkv|linear)\.weight")
    return {
        "bands": bands,
        "width": width,
        "blocks": parts // 2,
        "heads": max(1, width // HEAD),
        "bits": len(weights["quantizer.down.weight"]),
    }


def numbered(weights: Weights) -> Weights:
    """Give the layers of the encoder the numbers of ours, attention and perceptron in turn."""
    halves = {"self_attn": 0, "mlp": 1}

    def name(key: str) -> str:
        parts = key.split(".")
        if parts[:2] != ["encoder", "layers"]:
            return key
        return ".".join(
            ["encoder", "layers", str(2 * int(parts[2]) + halves[parts[3]]), *parts[3:]]
        )

    return {name(key): value for key, value in weights.items()}


ENCODER: Sequence[Rule] = (
    (r"^encoder\.in_linear\.", "encoder.into.linear."),
    (r"^encoder\.layers\.(\d+)\.\w+\.", r"encoder.blocks.layers.\1.body.layers."),
    (r"\.layers\.q_proj\.weight$", ".layers.1.qkv.weight#0"),
    (r"\.layers\.k_proj\.weight$", ".layers.1.qkv.weight#1"),
    (r"\.layers\.v_proj\.weight$", ".layers.1.qkv.weight#2"),
    (r"\.layers\.o_proj\.", ".layers.1.out."),
    (r"\.layers\.gate_proj\.weight$", ".layers.1.linear.weight#0"),
    (r"\.layers\.up_proj\.weight$", ".layers.1.linear.weight#1"),
    (r"\.layers\.down_proj\.", ".layers.3.linear."),
    (r"^vq_in_linear\.", "quantizer.down."),
    (r"^vq_out_linear\.", "quantizer.up."),
)
"""Names of the encoder and the quantizer in the program of the authors, and ours."""

BITS = (
    (r"^quantizer\.down\.", lambda x: x.flip(0)),  # their first bit is the highest
    (r"^quantizer\.up\.weight$", lambda x: x.flip(1)),
)
"""Changes of the maps of the quantizer, the order of whose bits differs."""


def all_sizes(weights: Weights, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sizes of the decoder (`decoders.mel_flow`) with these weights."""
    width, bands = weights["prompt_encoder.into.linear.weight"].shape[:2]
    vocoder = weights.get("decoder.vocoder.layers.0.conv.weight")
    return {
        "bands": bands,
        "width": width,
        "encoder_blocks": count(weights, r"prompt_encoder\.blocks\..*\.qkv\.weight"),
        "blocks": count(weights, r"decoder\.velocity\.transformer\.blocks\.\d+\.down.*"),
        "heads": max(1, width // HEAD),
        "bits": len(weights["quantizer.down.weight"]),
        "vocabulary": len(weights["text.weight"]),
        "vocoder_blocks": count(weights, r"decoder\.vocoder\.layers\.\d+\.scale"),
        **({} if vocoder is None else {"vocoder_width": len(vocoder)}),
    }


def all_numbered(weights: Weights) -> Weights:
    """Give the layers of the encoder, and those after the vocoder's blocks, the numbers of ours."""
    last = 2 + count(weights, r"vocoder\.backbone\.convnext\.\d+\.gamma")
    ends = {
        "vocoder.backbone.final_layer_norm.": f"decoder.vocoder.layers.{last}.norm.",
        "vocoder.head.out.": f"decoder.vocoder.layers.{last + 1}.linear.",
    }
    for theirs, ours in ends.items():
        weights = {key.replace(theirs, ours): value for key, value in weights.items()}
    return numbered(weights)


_BLOCK = {
    "self_attn.q_proj.weight": "attention.qkv.weight#0",
    "self_attn.k_proj.weight": "attention.qkv.weight#1",
    "self_attn.v_proj.weight": "attention.qkv.weight#2",
    "self_attn.o_proj.weight": "attention.out.weight",
    "mlp.gate_proj.weight": "up.linear.weight#0",
    "mlp.up_proj.weight": "up.linear.weight#1",
    "mlp.down_proj.weight": "down.linear.weight",
}
ALL: Sequence[Rule] = (
    (r"^decoder\.(?=layers\.|norm\.)", "decoder.velocity.transformer."),
    (
        rf"\.transformer\.layers\.(\d+)\.({'|'.join(map(re.escape, _BLOCK))})$",
        lambda match: f".transformer.blocks.{match[1]}.{_BLOCK[match[2]]}",
    ),
    (r"\.transformer\.layers\.(\d+)\.input_layernorm\.", r".transformer.blocks.\1.norm1."),
    (r"\.layers\.(\d+)\.post_attention_layernorm\.", r".blocks.\1.norm2."),
    (r"\.to_weight\.", ".gain."),
    (r"^decoder\.(in|out)_linear\.", r"decoder.velocity.\1."),
    (r"\.velocity\.in\.", ".velocity.into."),
    (r"^decoder\.text_mlp\.", "decoder.velocity.text."),
    (r"^decoder\.cond_mlp\.", "decoder.velocity.codes."),
    (r"^decoder\.diff_step_mlp\.", "decoder.velocity.time."),
    (r"\.velocity\.(text|codes|time)\.0\.", r".velocity.\1.up."),
    (r"\.velocity\.(text|codes|time)\.2\.", r".velocity.\1.down."),
    (r"^text_emb\.", "text."),
    (r"^vocoder\.backbone\.embed\.", "decoder.vocoder.layers.0.conv."),
    (r"^vocoder\.backbone\.norm\.", "decoder.vocoder.layers.1.norm."),
    (
        r"^vocoder\.backbone\.convnext\.(\d+)\.",
        lambda match: f"decoder.vocoder.layers.{int(match[1]) + 2}.",
    ),
    (r"\.dwconv\.", ".depthwise."),
    (r"\.pwconv1\.", ".up."),
    (r"\.pwconv2\.", ".down."),
    (r"\.gamma$", ".scale"),
    *ENCODER,
    (r"^encoder\.", "prompt_encoder."),
)
"""Names of all of the program of the authors, and those of `decoders.mel_flow`."""


class Tadicodec(Codec):
    """A tokenizer of speech at 6.25 frames/s, without a decoder."""

    name = "tadicodec"
    config_type = Config
    presets: ClassVar[Mapping[str, Config]] = {"tadicodec": Config()}
    taxonomy: ClassVar[Mapping[str, Taxonomy]] = {
        "tadicodec": Taxonomy(
            encoder="transformer",
            decoder="none",
            quantizer="BSQ",
            training="joint",
            licence="unstated",
        ),
    }
    sources: ClassVar[Mapping[str, PublishedWeights]] = {
        "tadicodec": PublishedWeights(file="model.safetensors", repo="amphion/TaDiCodec")
    }
    state_dict_adapters = (
        StateDictAdapter(
            source="Diffusion-Speech-Tokenizer, TaDiCodec",
            marks=("vq_in_linear.weight", "encoder.in_linear.weight"),
            prepare=numbered,
            rules=ENCODER,
            # The decoder, and what depends on it.
            ignored=(r"^decoder\.", r"^text_emb\.", r"^bsq\.", r"^repa_mlp\."),
            tensors=BITS,
            sizes=_sizes,
        ),
    )
    causal = False
    fills_up = False
    block = 32  # frames are long

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()
        self.sample_rate = 50 * HOP
        self.frame_size = POOL * HOP
        self.encoder = Encoder(config)
        self.quantizer = Bsq(config.width, bits=config.bits, commitment=0.0)
        self.decoder = Absent("decoder", self.frame_size)
