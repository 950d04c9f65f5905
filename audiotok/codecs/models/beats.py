"""The self-distilled tokenizer of BEATs: 16 kHz, 8 codes of 1,024 each 160 ms; no decoder.

    wave -> 128 log-mel bands -> patches of 160 ms by 16 bands -> transformer over all patches
         -> perceptron to 256 features a patch -> the nearest of 1,024 directions

The eight codebooks of a frame are the patches of its bands, low ones first, and have their entries
in common: `[8 bands, frames]`, 6.25 frames/s. The program gives the same codes in one row, frame
after frame. They were learnt by predicting the features of the BEATs model before, for sound of any
kind; the network that predicted them serves training only and is left out.

Attention sees the whole recording, and more than 30 s in windows of 30 s that overlap by 4 s, where
the program takes all at once. The program has no codes of samples that do not fill a frame and the
15 ms after it; here silence fills up the frames begun, which are coded with the 4 s before them,
and all others have the program's codes.

Source: Chen et al. 2022, arXiv:2212.09058, section 3.2; `Tokenizers.py` of microsoft/unilm, beats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from audiotok._platform.shapes import Features, Output
from audiotok.codecs.models.base import Codec
from audiotok.codecs.taxonomy import Taxonomy
from audiotok.data.features import beats
from audiotok.nn.layers.absent import Absent
from audiotok.nn.layers.base import WholeClip
from audiotok.nn.linear import Linear
from audiotok.nn.pretrained.state_dicts import StateDictAdapter, StateDictError, Weights, fair_share
from audiotok.nn.quantizers.shared_vq import SharedVq

CONTEXT = 25  # frames before those that silence fills up, which these are coded with
ENTRIES = "quantize.embedding.weight"


@dataclass(frozen=True)
class Config:
    """Sizes of `Beats`; the defaults are the published ones."""

    width: int = 768  # features of a patch
    layers: int = 12  # transformer blocks
    heads: int = 12  # attention heads
    hidden: int = 3072  # width inside a perceptron
    patch_width: int = 512  # features that a patch is mapped to at first
    kernel: int = 128  # patches in the convolution that tells positions
    groups: int = 16  # groups of features in it
    buckets: int = 320  # buckets of distances between patches; none if 0
    farthest: int = 800  # distance from which on all are in one bucket
    gated: bool = True  # whether what distances count depends on the patch
    deep: bool = True  # whether blocks have deep norm
    code_width: int = 256  # features of an entry
    size: int = 1024  # entries


def _sizes(weights: Weights, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sizes of a tokenizer with these weights."""
    if "cfg" not in metadata:
        raise StateDictError(
            "no cfg beside its weights, which alone tells heads and deep norm: keep the file as "
            "published, with its cfg and its model"
        )
    network = {
        name.removeprefix(NETWORK): value
        for name, value in weights.items()
        if name.startswith(NETWORK)
    }
    size, code_width = weights["quantizer.book.entries"].shape
    sizes = beats.sizes(network, metadata["cfg"])
    return {**sizes, "code_width": code_width, "size": size}


def _trained(theirs: Weights) -> Weights:
    """Return the weights, of which the entries must have been learnt and be directions."""
    begun = theirs.get("quantize.embedding.initted")
    if begun is not None and not begun.any():
        raise StateDictError("its codebook has not been trained")
    if (theirs[ENTRIES].norm(dim=1) - 1).abs().max() > 1e-3:
        raise StateDictError(f"{ENTRIES} holds vectors that are no directions, of length 1")
    usage = theirs.get("quantize.cluster_size", torch.ones(len(theirs[ENTRIES])))
    return {**theirs, "quantizer.book.usage": fair_share(usage)}


NETWORK = "encoder.network."
ADAPTER = StateDictAdapter(
    source="the tokenizer of BEATs",
    marks=(ENTRIES, "quantize_layer.0.weight", "patch_embedding.weight"),
    prepare=_trained,
    ignored=(
        beats.SHARED,
        r"^quantize\.embedding\.(cluster_size|embed_avg|initted)$",  # of training
        r"^quantize\.cluster_size$",
    ),
    rules=(
        (r"^quantize\.embedding\.weight$", "quantizer.book.entries"),
        (r"^quantize_layer\.", "head."),
        *beats.RULES,
        (r"^(?!quantizer\.|head\.)", NETWORK),
        (r"^head\.", "encoder.head."),
    ),
    tensors=(
        (r"\.embedding\.weight$", lambda x: x.flatten(1)),
        (r"\.strength$", torch.flatten),
    ),
    sizes=_sizes,
)


class Beats(Codec):
    """A tokenizer of a transformer over patches of a spectrogram."""

    name = "beats"
    config_type = Config
    presets: ClassVar[Mapping[str, Config]] = {"beats": Config()}
    taxonomy: ClassVar[Mapping[str, Taxonomy]] = {
        "beats": Taxonomy(
            encoder="transformer over patches",
            decoder="none",
            quantizer="VQ",
            training="distilled",
            teacher="BEATs of the iteration before",
            domain="audio",
            licence="MIT",
            published="https://github.com/microsoft/unilm/tree/master/beats",
        ),
    }
    state_dict_adapters: ClassVar[Sequence[StateDictAdapter]] = (ADAPTER,)
    causal = False
    fills_up = False
    semantic_codebooks = beats.BANDS
    frame_size = beats.FRAME
    block = 50

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()
        self.sample_rate = 16000
        self.encoder = _Encoder(config)
        self.quantizer = SharedVq(
            beats.BANDS * config.code_width, codebooks=beats.BANDS, size=config.size
        )
        self.decoder = Absent("decoder", self.frame_size)

    @property
    def parameters_trained(self) -> int:
        """See `Codec.parameters_trained`; the lengths of one weight, which is folded, count."""
        return super().parameters_trained + self.config.kernel


class _Encoder(WholeClip):
    """Waves `[b 1 t]` to latents `[b d f]`, those of a frame's patches one after the other."""

    def __init__(self, config: Config) -> None:
        super().__init__(1, beats.BANDS * config.code_width)
        self.consumes = beats.FRAME
        self.network = beats.Beats(
            width=config.width,
            layers=config.layers,
            heads=config.heads,
            hidden=config.hidden,
            patch_width=config.patch_width,
            kernel=config.kernel,
            groups=config.groups,
            buckets=config.buckets,
            farthest=config.farthest,
            gated=config.gated,
            deep=config.deep,
            beside=True,
        )
        self.head = nn.Sequential(
            Linear(config.width, config.width), nn.Tanh(), Linear(config.width, config.code_width)
        )

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`; a frame begun counts as one."""
        frames = -(-x.shape[2] // self.consumes)
        whole = self.network.patches.count(x.shape[2])
        parts = [self.whole(x)] if whole else []
        if whole < frames:
            begin = max(0, whole - CONTEXT)
            rest = self.network.patches.filled(x[:, :, begin * self.consumes :])
            parts.append(self.whole(rest)[:, :, whole - begin :])
        return torch.cat(parts, 2) if parts else x.new_zeros(len(x), self.outputs, 0)

    def whole(self, wave: Tensor) -> Output:
        """Return the latents of the frames that waves `[b 1 t]` fill."""
        x = self.network.chosen(wave[:, 0], [self.network.layers])[0]
        return self.head(x.unflatten(2, (beats.BANDS, -1))).flatten(2).transpose(1, 2)
