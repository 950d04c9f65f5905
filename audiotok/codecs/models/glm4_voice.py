"""The tokenizer of GLM-4-Voice: 16 kHz, one code of 16,384 a frame, 12.5 frames/s; no decoder.

    wave -> log-mel -> two causal convolutions -> 16 blocks of Whisper large-v3's size
         -> means of 4 frames of 20 ms -> 1 x 16384

Frames of 20 ms see the 4 s block that they are in and the blocks before it, within a segment of
30 s; what follows the quantizer serves training only and is left out. So a code is known once its
block has ended: it streams in blocks, with the codes of the whole to the bit.

The authors' program cuts each segment's spectrum off 80 dB below its loudest bin, which may be
anywhere in 30 s. `glm4_voice` cuts a block's spectrum off below the loudest bin of the segment up
to the end of that block: codes of blocks before the loudest may differ where there is near silence.
`glm4_voice_30s` waits for the segment instead, and gives the program's codes.

Source: Zeng et al. 2024, arXiv:2412.02612, section 3.1; its repository, THUDM/GLM-4-Voice, at
eb00ce9, `speech_tokenizer`, of a recording by itself: in a batch there, recordings shorter than the
longest end in silence, which changes their last frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from audiotok.codecs.models.base import Codec
from audiotok.codecs.taxonomy import Taxonomy
from audiotok.data.features.whisper import sinusoids
from audiotok.nn.layers.absent import Absent
from audiotok.nn.layers.block_causal_encoder import BlockCausalEncoder
from audiotok.nn.pretrained.hub import PublishedWeights
from audiotok.nn.pretrained.state_dicts import (
    Rule,
    StateDictAdapter,
    StateDictError,
    Weights,
    count,
)
from audiotok.nn.quantizers.rvq import Rvq

REPOSITORY = "THUDM/glm-4-voice-tokenizer"
HEAD = 64  # features of an attention head, where no configuration tells them
FIXED = {  # of the configuration, what the tokenizer here does and other values would not be
    "pooling_type": "avg",
    "encoder_causal_convolution": True,
    "encoder_causal_attention": False,
    "quantize_causal_encoder": False,
    "scale_embedding": False,
    "activation_function": "gelu",
}


@dataclass(frozen=True)
class Config:
    """Sizes of `Glm4Voice`; the defaults are the published ones."""

    bands: int = 128  # mel bands
    width: int = 1280  # features of a frame
    heads: int = 20  # attention heads
    layers: int = 16  # transformer blocks before the quantizer
    pool: int = 4  # frames of 20 ms that are averaged to one
    block: int = 200  # frames of 20 ms that see each other
    segment: int = 1500  # frames of 20 ms that are coded by themselves
    size: int = 16384  # entries
    wait: bool = False  # whether spectra are cut off below the loudest bin of the whole segment


def _sizes(weights: Weights, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sizes of a tokenizer with these weights."""
    width, bands, _ = weights["encoder.conv1.weight"].shape
    layers = count(weights, r"encoder\.blocks\.\d+\.query\.weight")
    fixed = FIXED | {"quantize_position": layers, "pooling_position": layers}
    for name, value in fixed.items():
        if metadata.get(name, value) != value:
            raise StateDictError(f"{name} is {metadata[name]}, where only {value} is known")
    return {
        "bands": bands,
        "width": width,
        "heads": metadata.get("encoder_attention_heads", width // HEAD),
        "layers": layers,
        "pool": metadata.get("pooling_kernel_size", Config.pool),
        "block": metadata.get("quantize_causal_block_size", Config.block),
        "segment": len(weights["encoder.positions"]),
        "size": len(weights["quantizer.stages.0.entries"]),
    }


def _with_usage(theirs: Weights) -> Weights:
    """Add the usage of the entries, which are trained no further."""
    entries = next(value for name, value in theirs.items() if name.endswith("codebook.weight"))
    return {**theirs, "quantizer.stages.0.usage": torch.ones(len(entries))}


_RULES: Sequence[Rule] = (
    (r"^encoder\.", ""),
    (r"^codebook\.weight$", "quantizer.stages.0.entries"),
    (r"^embed_positions\.weight$", "encoder.positions"),
    (r"^(conv[12])\.", r"encoder.\1."),
    (r"^layers\.", "encoder.blocks."),
    (r"\.self_attn_layer_norm\.", ".norm1."),
    (r"\.final_layer_norm\.", ".norm2."),
    (r"\.self_attn\.(q|k|v)_proj\.", lambda m: f".{PARTS[m[1]]}."),
    (r"\.self_attn\.out_proj\.", ".out."),
    (r"\.fc1\.", ".up."),
    (r"\.fc2\.", ".down."),
)
PARTS = {"q": "query", "k": "key", "v": "value"}
IGNORED = (
    r"^decoder\.",  # of text
    r"^proj_out\.",
    r"^(encoder\.)?(layer_norm|embed_positions2)\.",  # after the quantizer
    r"^(encoder\.)?layers\.(1[6-9]|[23]\d)\.",
    r"^(encoder\.)?ema_(count|weight)$",  # averages for training
)


def _adapter(source: str, prefix: str) -> StateDictAdapter:
    """Return the naming of weights of the whole model, or of its encoder alone."""
    marks = ("conv1.weight", "codebook.weight", "layers.0.self_attn.q_proj.weight")
    return StateDictAdapter(
        source=source,
        marks=tuple(prefix + mark for mark in marks),
        prepare=_with_usage,
        ignored=IGNORED,
        rules=_RULES,
        sizes=_sizes,
    )


class Glm4Voice(Codec):
    """A tokenizer of Whisper's encoder with a quantizer in its middle, which runs in blocks."""

    name = "glm4_voice"
    config_type = Config
    presets: ClassVar[Mapping[str, Config]] = {
        "glm4_voice": Config(),
        "glm4_voice_30s": Config(wait=True),
    }
    taxonomy: ClassVar[Mapping[str, Taxonomy]] = dict.fromkeys(
        presets,
        Taxonomy(
            encoder="Whisper",
            decoder="none",
            quantizer="VQ",
            training="supervised",
            licence="GLM-4 licence",
            published="https://huggingface.co/THUDM/glm-4-voice-tokenizer",
        ),
    )
    sources: ClassVar[Mapping[str, PublishedWeights]] = {
        "glm4_voice": PublishedWeights(file="model.safetensors", repo=REPOSITORY),
        "glm4_voice_30s": PublishedWeights(  # by address, as the id of a repository is one name's
            file="model.safetensors",
            url=f"https://huggingface.co/{REPOSITORY}/resolve/main/model.safetensors",
        ),
    }
    state_dict_adapters: ClassVar[Sequence[StateDictAdapter]] = (
        _adapter("GLM-4-Voice, WhisperVQ", "encoder."),
        _adapter("GLM-4-Voice, WhisperVQEncoder", ""),
    )
    causal = False
    fills_up = False
    semantic_codebooks = 1
    block = 50

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()
        self.sample_rate = 16000
        self.encoder = BlockCausalEncoder(
            bands=config.bands,
            width=config.width,
            heads=config.heads,
            layers=config.layers,
            pool=config.pool,
            block=config.block,
            segment=config.segment,
            wait=config.wait,
        )
        self.encoder.positions.copy_(sinusoids(config.segment, config.width))
        self.frame_size = self.encoder.consumes
        self.period = config.segment // config.pool
        self.quantizer = Rvq(config.width, codebooks=1, size=config.size)
        self.decoder = Absent("decoder", self.frame_size)
