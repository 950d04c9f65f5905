"""Ichigo's tokenizer: 16 kHz, one code of 2,561 a frame, 25 frames/s, on top of Whisper-medium.

    wave -> Whisper's encoder (frozen), 30 s at a time -> means of 2 -> perceptron -> 64 features
         -> the nearest direction of 2561 -> `dequantized`: what Whisper's decoder reads

Entry 2048 is the mask that stands for what lies past the end of a recording; it is never chosen
here. (The package ichigo-whisper may choose it. Its 2,561 entries are those of an English codebook
of 2,048, that codebook's mask, and 512 of a Vietnamese one.)

A recording longer than 30 s is coded in segments of 30 s; the package codes the first of them only.
Of a last frame that is not whole the package has no code, here it has that of the package's grid of
30 s. Codes are equal otherwise.

Source: Dao et al. 2024, arXiv:2410.15316; package ichigo-whisper 2.3.0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from audiotok._platform.errors import InputError
from audiotok._platform.shapes import Codes, Features, Output
from audiotok.codecs.models.base import Codec
from audiotok.codecs.taxonomy import Taxonomy
from audiotok.data.features.whisper import FRAME, Whisper
from audiotok.nn.layers.absent import Absent
from audiotok.nn.layers.segmented import Segmented
from audiotok.nn.layers.transformer_block import TransformerBlock
from audiotok.nn.linear import Linear
from audiotok.nn.log_mel import HOP, mirrored, normalised, power_logs
from audiotok.nn.pretrained import reader
from audiotok.nn.pretrained.state_dicts import (
    Rule,
    StateDictAdapter,
    StateDictError,
    Weights,
    check,
)
from audiotok.nn.quantizers.cosine_vq import CosineVq
from audiotok.nn.skip_init import SkipInit

POOL = 2  # frames of 20 ms that are averaged to one
SILENCE = -1.5  # of a spectrum, past the end of a recording
SCALE = 2**0.5  # of queries and keys, where they are scaled twice as much as usual
HEAD = 64  # features of an attention head in every Whisper
MERGED, MASK = 2561, 2048  # entries of the published codebook, and its mask


@dataclass(frozen=True)
class Config:
    """Sizes of `Ichigo`; the defaults are the published ones."""

    bands: int = 80  # mel bands
    width: int = 1024  # features of a frame
    heads: int = 16  # attention heads
    layers: int = 24  # transformer blocks of Whisper's encoder
    segment: int = 1500  # frames of 20 ms that are coded together
    code_width: int = 64  # features of an entry
    size: int = MERGED  # entries, with the mask
    mask: int = MASK  # the entry that is never chosen

    def __post_init__(self) -> None:
        if self.segment % POOL:
            raise InputError(f"segment={self.segment}: an even number of frames")


def _sizes(weights: Weights, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sizes of a tokenizer with these weights."""
    size, code_width = weights["quantizer.entries"].shape
    return {
        "width": len(weights["encoder.norm.weight"]),
        "code_width": code_width,
        "size": size,
        "mask": MASK if size == MERGED else size - 1,
    }


def _alone(theirs: Weights) -> Weights:
    raise StateDictError(
        "the quantizer alone, which needs the encoder of Whisper-medium: "
        "Ichigo.joined(quantizer, whisper) of audiotok.codecs.models.ichigo makes one of both"
    )


_RULES: Sequence[Rule] = (
    (r"^mlp_ln\.", "encoder.norm."),
    (r"^mlp\.0\.", "encoder.up."),
    (r"^mlp\.2\.", "encoder.down."),
    (r"^rq\.(layers\.0\.)?project_in\.", "quantizer.down."),
    (r"^rq\.(layers\.0\.)?project_out\.", "quantizer.up."),
    (r"^rq\.layers\.0\._codebook\.embed$", "quantizer.entries"),
    (r"^rq\.layers\.0\._codebook\.cluster_size$", "quantizer.usage"),
    (r"^positional_embedding\.weight$", "semantic.positions"),
    (r"^_out_blocks\.0\.", "semantic.block."),
    (r"\.attn\.", "."),
    (r"\.attn_ln\.", ".norm1."),
    (r"\.mlp_ln\.", ".norm2."),
    (r"\.mlp\.0\.", ".up."),
    (r"\.mlp\.2\.", ".down."),
    (r"^ln_post\.", "semantic.norm."),
)
QUANTIZER = StateDictAdapter(
    source="ichigo-whisper 2.3.0",
    marks=("rq.layers.0._codebook.embed", "_out_blocks.0.attn.query.weight"),
    ignored=(
        r"_codebook\.(initted|embed_avg)$",  # of training
        r"^(_codebook_usage|val_true|val_total)$",
        r"\.rotary\.inv_freq$",  # computed here
    ),
    rules=_RULES,
    tensors=(
        (r"^quantizer\.(entries|usage)$", lambda x: x[0]),
        (r"^semantic\.block\.(query|key)\.", lambda x: SCALE * x),
    ),
    sizes=_sizes,
)


class Ichigo(Codec):
    """A tokenizer of a frozen Whisper encoder, with a quantizer of directions on top."""

    name = "ichigo"
    config_type = Config
    presets: ClassVar[Mapping[str, Config]] = {"ichigo": Config()}
    taxonomy: ClassVar[Mapping[str, Taxonomy]] = {
        "ichigo": Taxonomy(
            encoder="Whisper",
            decoder="none",
            quantizer="VQ",
            training="supervised",
            teacher="Whisper medium",
            licence="unstated",
            published="https://huggingface.co/homebrewltd/ichigo-whisper",
        ),
    }
    state_dict_adapters: ClassVar[Sequence[StateDictAdapter]] = (
        replace(QUANTIZER, prepare=_alone),
    )
    causal = False
    fills_up = False
    semantic_codebooks = 1
    frame_size = POOL * FRAME
    block = 50

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()
        self.sample_rate = 16000
        self.period = config.segment // POOL
        self.encoder = _Encoder(config)
        self.quantizer = CosineVq(
            config.width, size=config.size, width=config.code_width, mask=config.mask
        )
        self.semantic = _Dequantizer(config)
        self.decoder = Absent("decoder", self.frame_size)

    @classmethod
    def joined(cls, quantizer: str | Path, whisper: str | Path) -> Ichigo:
        """Return a tokenizer of its two files, ready to use; `checkpoint.save` makes one of them.

        Args:
            quantizer: file of the quantizer's weights, as published.
            whisper: weights of the Whisper that it was trained on, as `Whisper.load` takes them.

        Raises:
            StateDictError: the first file holds other weights, or the second another Whisper's.
            WeightsFileError: the first file cannot be read.
            TeacherError: the second cannot.
        """
        theirs, metadata = reader.read(quantizer)
        if not QUANTIZER.knows(theirs):
            raise StateDictError(f"{quantizer}: no weights of {QUANTIZER.source}")
        weights, origin = QUANTIZER.translate(theirs)
        model = Whisper.load(whisper)
        sizes = _sizes(weights, metadata)
        if model.width != sizes["width"]:
            raise StateDictError(
                f"{whisper}: a Whisper of {model.width} features, not of {sizes['width']}"
            )
        sizes |= {"bands": model.bands, "layers": model.layers, "heads": model.width // HEAD}
        with SkipInit():
            codec = cls(Config(**sizes, segment=len(weights["semantic.positions"])))
        weights |= {f"encoder.whisper.{key}": value for key, value in model.state_dict().items()}
        check(weights, codec.state_dict(), origin)
        codec.load_state_dict(weights)
        return codec.eval().requires_grad_(False)

    @property
    def parameters_trained(self) -> int:
        """See `Codec.parameters_trained`; those of the frozen Whisper do not count."""
        frozen = self.encoder.get_submodule("whisper")
        return super().parameters_trained - sum(p.numel() for p in frozen.parameters())

    def grown(self, more: int) -> Ichigo:
        """Return a tokenizer with further entries, which codes every recording as this one does.

        They are asleep (`CosineVq`) until they are trained.

        Args:
            more: number of entries to add.
        """
        grown = Ichigo(replace(self.config, size=self.config.size + more))
        state = self.state_dict()
        for name, fill in (("quantizer.entries", (0, 0, 0, more)), ("quantizer.usage", (0, more))):
            state[name] = F.pad(state[name], fill)
        grown.load_state_dict(state)
        return grown.to(self.device).train(self.training)

    def dequantized(self, codes: Codes) -> Output:
        """Return the features `[b width segment]` that Whisper's decoder reads, of a segment.

        Args:
            codes: codes `[b 1 f]` of at most a segment; the mask follows them.

        Raises:
            ValueError: there are more frames than in a segment.
        """
        missing = self.period - codes.shape[2]
        if missing < 0:
            raise InputError(f"{codes.shape[2]} frames: a segment has {self.period} at most")
        codes = F.pad(codes, (0, missing), value=self.config.mask)
        return self.semantic(self.quantizer.decode(codes).repeat_interleave(POOL, 2))


class _Encoder(Segmented):
    """Waves `[b 1 t]` to latents `[b width f]`, segment by segment."""

    def __init__(self, config: Config) -> None:
        width, consumes = config.width, POOL * FRAME
        super().__init__(1, width, size=config.segment * FRAME, consumes=consumes)
        self.steps = 2 * config.segment  # of the spectrum of a segment
        self.whisper = Whisper(
            width=width, layers=config.layers, heads=config.heads, bands=config.bands
        )
        self.norm = nn.LayerNorm(width)
        self.up = Linear(width, 4 * width)
        self.down = Linear(4 * width, width)

    def segment(self, x: Features) -> Output:
        """See `Segmented.segment`."""
        samples = x[:, 0]
        frames = -(-samples.shape[1] // self.consumes)
        logs = power_logs(mirrored(samples), self.whisper.bands)
        logs = logs[:, :, : max(1, samples.shape[1] // HOP)]
        mel = normalised(logs, logs.amax((1, 2), keepdim=True))
        mel = F.pad(mel, (0, self.steps - mel.shape[2]), value=SILENCE)
        *_, x = self.whisper.states_of(mel)
        x = x.unflatten(1, (-1, POOL)).mean(2)[:, :frames]
        return (x + self.down(F.gelu(self.up(self.norm(x))))).transpose(1, 2)


class _Dequantizer(nn.Module):
    """Decoded codes of a segment, twice each, to the features that Whisper's decoder reads."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.positions = nn.Parameter(0.02 * torch.randn(config.segment, config.width))
        self.block = TransformerBlock(config.width, heads=config.heads, rotary=True)
        self.norm = nn.LayerNorm(config.width)

    def forward(self, x: Features) -> Output:
        """Return features `[b width segment]` of decoded codes of that shape."""
        return self.norm(self.block(x + self.positions.T).transpose(1, 2)).transpose(1, 2)
