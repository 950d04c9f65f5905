"""S3 tokenizers of CosyVoice 1, 2 and 3: 16 kHz, one code a frame, 50 or 25 frames/s; no decoder.

    wave -> log-mel -> two convolutions -> transformer -> unit length -> 1 x 4096     v1
                                                       -> 8 features  -> 3 levels each  v2, v3

They are the lower half of a speech recogniser with a quantizer in its middle. Recordings longer
than 30 s run in windows of 30 s that overlap by 4 s, in the middle of which one takes over:

    window 0   |--------- 26 s ---------|-2-|-2-|
    window 1                            |-2-|-2-|------- 22 s -------|-2-|-2-|
    codes      |------- window 0 -----------|------- window 1 -----------|---

The spectrum is cut off 80 dB below the loudest bin of the recording, and attention sees all of a
window, so the tokenizer cannot stream.

Codes are those of the package s3tokenizer 0.3.0, which differs in their number only: of a last
frame of less than 10 ms it has none (here that frame is coded with the 4 s before it, after the
others), and of a recording whose last window has less than 4 s it loses up to 2 s of codes (here
the window before it goes on to the end).

Source: Du et al. 2024, arXiv:2407.05407 (v1), arXiv:2412.10117 (v2); Du et al. 2025,
arXiv:2505.17589 (v3); names and rules of s3tokenizer 0.3.0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiotok._platform.errors import InputError
from audiotok._platform.shapes import Features, Output
from audiotok.codecs.models.base import Codec
from audiotok.codecs.taxonomy import Taxonomy
from audiotok.data.features.whisper import sinusoids
from audiotok.nn.layers.absent import Absent
from audiotok.nn.layers.base import WholeClip
from audiotok.nn.layers.conv import Conv
from audiotok.nn.layers.transformer_block import TransformerBlock
from audiotok.nn.linear import Linear
from audiotok.nn.log_mel import HOP, mirrored, normalised, power_logs
from audiotok.nn.pretrained.state_dicts import Rule, StateDictAdapter, Weights, count
from audiotok.nn.quantizers.fsq import Fsq
from audiotok.nn.quantizers.rvq import Rvq

HEAD = 64  # features of an attention head in every published tokenizer; not told by the weights
WINDOW, OVERLAP = 3000, 400  # steps of the spectrum, 10 ms each
LEVELS = 3  # of a feature that is rounded


@dataclass(frozen=True)
class Config:
    """Sizes of `S3`; the defaults are those of v1 at 50 frames/s."""

    stride: int = 1  # of the first convolution: 1 for 50 frames/s, 2 for 25
    bands: int = 128  # mel bands
    width: int = 1280  # features of a frame
    heads: int = 20  # attention heads
    layers: int = 6  # transformer blocks
    memory: int = 0  # taps of the memory beside attention, with rotary positions; 0: sinusoids
    rounded: int = 0  # features that are rounded to three levels; 0: entries
    size: int = 4096  # entries, where no features are rounded

    def __post_init__(self) -> None:
        if self.stride not in (1, 2):
            raise InputError(f"stride={self.stride}: 1 for 50 frames/s, or 2 for 25")


V2 = Config(stride=2, memory=31, rounded=8)
V3 = Config(stride=2, memory=31, rounded=8, layers=12)


def _sizes(weights: Weights, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sizes of a tokenizer with these weights; v1's stride leaves no trace in them."""
    width, bands, _ = weights["encoder.conv1.conv.weight"].shape
    sizes = {
        "bands": bands,
        "width": width,
        "heads": width // HEAD,
        "layers": count(weights, r"encoder\.blocks\.\d+\.query\.weight"),
    }
    memory = weights.get("encoder.blocks.0.memory.weight")
    if memory is None:
        return {**sizes, "memory": 0, "size": len(weights["quantizer.stages.0.entries"])}
    rounded = len(weights["encoder.down.weight"])
    return {**sizes, "stride": 2, "memory": memory.shape[2], "rounded": rounded}


def _with_usage(theirs: Weights) -> Weights:
    """Add the usage of the entries, which are trained no further."""
    entries = theirs["quantizer._codebook.embed"]
    return {**theirs, "quantizer.stages.0.usage": torch.ones(len(entries))}


_RULES: Sequence[Rule] = (
    (r"\.(conv[12])\.", r".\1.conv."),
    (r"positional_embedding$", "positions"),
    (r"\.attn\.fsmn_block\.", ".memory."),
    (r"\.attn\.", "."),
    (r"\.attn_ln\.", ".norm1."),
    (r"\.mlp_ln\.", ".norm2."),
    (r"\.mlp\.0\.", ".up."),
    (r"\.mlp\.2\.", ".down."),
    (r"^quantizer\._codebook\.project_down\.", "encoder.down."),
    (r"^quantizer\._codebook\.embed$", "quantizer.stages.0.entries"),
)


class S3(Codec):
    """A tokenizer of a convolution stem and transformer blocks on a log-mel spectrum."""

    name = "s3"
    config_type = Config
    presets: ClassVar[Mapping[str, Config]] = {
        "s3_v1": Config(),
        "s3_v1_25hz": Config(stride=2),
        "s3_v2_25hz": V2,
        "s3_v3_25hz": V3,
    }
    taxonomy: ClassVar[Mapping[str, Taxonomy]] = {
        "s3_v1": Taxonomy(
            quantizer="VQ",
            encoder="SenseVoice",
            decoder="none",
            training="supervised",
            licence="Apache-2.0",
            published="https://huggingface.co/FunAudioLLM/CosyVoice-300M",
        ),
        "s3_v1_25hz": Taxonomy(
            quantizer="VQ",
            encoder="SenseVoice",
            decoder="none",
            training="supervised",
            licence="Apache-2.0",
            published="https://huggingface.co/FunAudioLLM/CosyVoice-300M-25Hz",
        ),
        "s3_v2_25hz": Taxonomy(
            quantizer="FSQ",
            encoder="SenseVoice",
            decoder="none",
            training="supervised",
            licence="Apache-2.0",
            published="https://huggingface.co/FunAudioLLM/CosyVoice2-0.5B",
        ),
        "s3_v3_25hz": Taxonomy(
            quantizer="FSQ",
            encoder="MinMo",
            decoder="none",
            training="supervised",
            licence="Apache-2.0",
            published="https://huggingface.co/FunAudioLLM/Fun-CosyVoice3-0.5B-2512",
        ),
    }
    state_dict_adapters: ClassVar[Sequence[StateDictAdapter]] = (
        StateDictAdapter(
            source="s3tokenizer 0.3.0, v1",
            marks=("encoder.blocks.0.attn.query.weight", "quantizer._codebook.embed"),
            prepare=_with_usage,
            rules=_RULES,
            sizes=_sizes,
        ),
        StateDictAdapter(
            source="s3tokenizer 0.3.0, v2 and v3",
            marks=(
                "encoder.blocks.0.attn.fsmn_block.weight",
                "quantizer._codebook.project_down.weight",
            ),
            rules=_RULES,
            sizes=_sizes,
        ),
    )
    causal = False
    fills_up = False
    semantic_codebooks = 1

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()
        self.sample_rate = 16000
        self.frame_size = 2 * config.stride * HOP
        self.encoder = _Encoder(config)
        self.quantizer = (
            # The outermost levels begin where tanh is 0.5 / 0.999.
            Fsq(config.rounded, levels=(LEVELS,) * config.rounded, rule="original", limit=0.999)
            if config.rounded
            else Rvq(config.width, codebooks=1, size=config.size)
        )
        self.decoder = Absent("decoder", self.frame_size)


class _Encoder(WholeClip):
    """Waves `[b 1 t]` to latents, of unit length or of few features, one for each frame begun."""

    positions: Tensor | None

    def __init__(self, config: Config) -> None:
        super().__init__(1, config.rounded or config.width)
        width = config.width
        self.bands = config.bands
        self.unit = 2 * config.stride  # steps of the spectrum in a frame
        self.conv1 = Conv(config.bands, width, 3, stride=config.stride, causal=False)
        self.conv2 = Conv(width, width, 3, stride=2, causal=False)
        rotary = bool(config.memory)
        self.register_buffer("positions", None if rotary else sinusoids(WINDOW // 2, width))
        self.blocks = nn.ModuleList(
            TransformerBlock(width, heads=config.heads, rotary=rotary, memory=config.memory)
            for _ in range(config.layers)
        )
        self.down = Linear(width, config.rounded) if config.rounded else None

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`."""
        steps = x.shape[2] // HOP
        logs = power_logs(mirrored(x[:, 0]), self.bands)
        loudest = logs[:, :, : max(1, steps)].amax((1, 2), keepdim=True)
        mel = normalised(logs, loudest)
        parts = [
            self._latents(mel[:, :, begin:end])[:, :, first:last]
            for begin, end, first, last in self._windows(steps)
        ]
        frames = -(-steps // self.unit)
        if frames * self.unit * HOP < x.shape[2]:
            begin = max(0, steps - OVERLAP)
            parts.append(self._latents(mel[:, :, begin : steps + 1])[:, :, -1:])
        return torch.cat(parts, 2)

    def _windows(self, steps: int) -> Iterator[tuple[int, int, int, int | None]]:
        """Yield first and last step of each window, and first and last frame of those it gives."""
        frames, unit = -(-steps // self.unit), self.unit
        stride, overlap = (WINDOW - OVERLAP) // unit, OVERLAP // unit
        begins = [0, *range(stride, frames - overlap + 1, stride)] if steps > WINDOW else [0]
        for begin in begins if steps else ():
            first = overlap // 2 if begin else 0
            last = None if begin == begins[-1] else stride + overlap // 2
            yield begin * unit, min(steps, begin * unit + WINDOW), first, last

    def _latents(self, mel: Tensor) -> Output:
        """Return the latents of a window of at most 30 s."""
        x = F.gelu(self.conv2(F.gelu(self.conv1(mel))))
        if self.positions is not None:
            x = x + self.positions[: x.shape[2]].T
        for block in cast("list[TransformerBlock]", list(self.blocks)):
            x = block(x)
        if self.down is None:
            return F.normalize(x, dim=1)
        return self.down(x.transpose(1, 2)).transpose(1, 2)
