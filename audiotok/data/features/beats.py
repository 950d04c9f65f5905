"""The audio encoder BEATs (Chen et al. 2022, arXiv:2212.09058), in plain torch.

wave -> 128 log-mel bands of Kaldi, 100 a second -> patches of 16 steps by 16 bands -> linear
     -> convolution that tells positions -> transformer over all patches, 8 each 160 ms
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from audiotok.data.features.base import (
    Batch,
    SpeechTeacher,
    States,
    TeacherError,
    local_weights,
    read_weights,
)
from audiotok.nn.layers.conv import Conv
from audiotok.nn.layers.kaldi_patches import KaldiPatches
from audiotok.nn.layers.relative_transformer import RelativeTransformer
from audiotok.nn.linear import Linear
from audiotok.nn.pretrained.options import Options
from audiotok.nn.pretrained.reader import fold
from audiotok.nn.pretrained.state_dicts import Rule, StateDictError, Weights, check, count
from audiotok.nn.skip_init import SkipInit

BANDS = 8  # patches of a frame
FRAME = 2560  # samples


class Beats(SpeechTeacher):
    """BEATs: 12 transformer blocks of 768 features on patches, 8 of them in 160 ms.

    A feature is the mean of the 8 patches of 160 ms, or has them side by side, low bands first.
    Hidden state 0 is the input of the first block. Of a recording of t samples there are
    `(t - 240) // 2560` features, at least one.
    """

    frame_rate = Fraction(16000, FRAME)
    window = 187  # just under 30 s; published models were trained on 10 s
    overlap = 24

    def __init__(
        self,
        *,
        width: int = 768,
        layers: int = 12,
        heads: int = 12,
        hidden: int = 3072,
        patch_width: int = 512,
        kernel: int = 128,
        groups: int = 16,
        buckets: int = 320,
        farthest: int = 800,
        gated: bool = True,
        deep: bool = True,
        beside: bool = False,
    ) -> None:
        """Build the network with random weights; most users call `load` instead.

        Args:
            width: numbers in a patch's feature.
            layers: transformer blocks.
            heads: attention heads.
            hidden: numbers between the two dense layers of a block.
            patch_width: numbers that a patch is mapped to at first.
            kernel: patches in the convolution that tells positions.
            groups: groups of features in it.
            buckets: buckets of distances between patches; none if 0.
            farthest: distance from which on all are in one bucket.
            gated: whether what distances count depends on the patch.
            deep: whether blocks have deep norm.
            beside: whether features have the 8 patches side by side, rather than their mean.
        """
        super().__init__()
        self.name = "beats" + "-beside" * beside
        self.width = BANDS * width if beside else width
        self.layers = layers
        self.settings = {"beside": beside}
        self.sizes = {
            "width": width,
            "layers": layers,
            "heads": heads,
            "hidden": hidden,
            "patch_width": patch_width,
            "kernel": kernel,
            "groups": groups,
            "buckets": buckets,
            "farthest": farthest,
            "gated": gated,
            "deep": deep,
        }
        self.beside = beside
        self.patches = KaldiPatches()
        self.embedding = Linear(self.patches.outputs // BANDS, patch_width, bias=False)
        self.patch_norm = nn.LayerNorm(patch_width)
        self.projection = Linear(patch_width, width) if patch_width != width else nn.Identity()
        self.position_conv = Conv(width, width, kernel, groups=groups, causal=False)
        self.norm = nn.LayerNorm(width)
        self.transformer = RelativeTransformer(
            width,
            blocks=layers,
            heads=heads,
            hidden=hidden,
            buckets=buckets,
            farthest=farthest,
            gated=gated,
            deep=deep,
        )

    @classmethod
    def load(cls, weights: str | Path, *, beside: bool = False) -> Beats:
        """Load the encoder of a file as published, with or without a head.

        Args:
            weights: the file, which holds weights and the options that tell what they are of.
            beside: as in the constructor.

        Raises:
            TeacherError: no such weights, or another model's.
        """
        path = local_weights(weights, needs="the .pt file of a BEATs model")
        content = read_weights(path) if path.is_file() else {}
        if not {"cfg", "model"} <= content.keys():
            raise TeacherError(f"{path}: not a BEATs model, a file that holds its cfg and model")
        theirs = {key: x for key, x in content["model"].items() if not HEADS.match(key)}
        try:
            ours = renamed(fold(theirs))
            with SkipInit():
                teacher = cls(**sizes(ours, content["cfg"]), beside=beside)
            check(ours, teacher.state_dict(), {})
        except KeyError as error:
            raise TeacherError(f"{path}: not a BEATs model (no {error})") from None
        except (StateDictError, ValueError) as error:
            raise TeacherError(f"{path}: not a BEATs model that is known: {error}") from None
        teacher.ready(ours, path)
        return teacher

    def states(self, wave: Batch) -> Iterator[States]:
        """See `SpeechTeacher.states`; samples that fill no frame are left out."""
        wave = F.pad(wave, (0, max(0, FRAME + self.patches.more - wave.shape[1])))
        x = self.patches.whole(wave[:, None])
        frames = x.shape[2]
        x = x.unflatten(1, (BANDS, -1)).permute(0, 3, 1, 2).flatten(1, 2)  # [b f*bands d]
        x = self.projection(self.patch_norm(self.embedding(x))).transpose(1, 2)
        x = x + F.gelu(self.position_conv(x))
        x = self.norm(x.transpose(1, 2)).transpose(1, 2)
        for state in self.transformer.states(x):
            parts = state.transpose(1, 2).unflatten(1, (frames, BANDS))
            yield parts.flatten(2) if self.beside else parts.mean(2)


# -- state dict of the authors' program -----------------------------------------------------------

HEADS = re.compile(r"predictor\.|quantize(_layer)?\.")
RULES: tuple[Rule, ...] = (
    (r"^patch_embedding\.", "embedding."),
    (r"^layer_norm\.", "patch_norm."),
    (r"^post_extract_proj\.", "projection."),
    (r"^encoder\.pos_conv\.0\.", "position_conv.conv."),
    (r"^encoder\.layer_norm\.", "norm."),
    (r"^encoder\.layers\.0\.self_attn\.relative_attention_bias\.", "transformer.positions."),
    (r"^encoder\.layers\.", "transformer.blocks."),
    (r"\.self_attn\.(q|k|v)_proj\.", lambda m: f".{PARTS[m[1]]}."),
    (r"\.self_attn\.out_proj\.", ".out."),
    (r"\.self_attn\.grep_linear\.", ".gate."),
    (r"\.self_attn\.grep_a$", ".strength"),
    (r"\.self_attn_layer_norm\.", ".norm1."),
    (r"\.final_layer_norm\.", ".norm2."),
    (r"\.fc1\.", ".up."),
    (r"\.fc2\.", ".down."),
)
PARTS = {"q": "query", "k": "key", "v": "value"}
SHARED = r"^encoder\.layers\.[1-9]\d*\.self_attn\.relative_attention_bias\."  # with block 0
FIXED = Options(
    fixed={
        "activation_fn": "gelu",
        "conv_bias": False,
        "input_patch_size": 16,
        "layer_norm_first": False,
    }
)
# Options that leave no trace in the weights, and their values where a file does not say.
UNTOLD = {
    "encoder_attention_heads": ("heads", 12),
    "max_distance": ("farthest", 1280),
    "deep_norm": ("deep", False),
}


def converted(name: str, value: Tensor) -> Tensor:
    """Return a tensor of the program as it is here, by its name here."""
    if name.endswith("embedding.weight") and value.dim() == 4:
        return value.flatten(1)
    return value.flatten() if name.endswith(".strength") else value


def renamed(theirs: Weights) -> Weights:
    """Return the encoder's tensors by the names of `Beats`."""
    ours = {}
    for name, value in theirs.items():
        if not re.search(SHARED, name):
            for pattern, ending in RULES:
                name = re.sub(pattern, ending, name)
            ours[name] = converted(name, value)
    return ours


def sizes(ours: Mapping[str, Tensor], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `Beats` for its weights and the options beside them.

    Raises:
        KeyError: a tensor is missing.
        StateDictError: the network here does not compute what the options tell.
    """
    FIXED.read({name: options[name] for name in FIXED.fixed if name in options}, "its cfg")
    width, grouped, kernel = ours["position_conv.conv.weight"].shape
    positions = ours.get("transformer.positions.weight")
    untold = {ours: options.get(name, usual) for name, (ours, usual) in UNTOLD.items()}
    return {
        "width": width,
        "layers": count(ours, r"transformer\.blocks\.\d+\.query\.weight"),
        "hidden": len(ours["transformer.blocks.0.up.weight"]),
        "patch_width": len(ours["embedding.weight"]),
        "kernel": kernel,
        "groups": width // grouped,
        "buckets": 0 if positions is None else len(positions),
        "gated": "transformer.blocks.0.strength" in ours,
        **untold,
    }
