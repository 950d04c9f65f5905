"""K-means units: the nearest of a set of centroids to each feature of a pretrained model.

    wave at 16 kHz -> feature extractor, one layer or several -> (mean of neighbours)
                   -> (minus the mean of the recording) -> nearest centroid, one code a layer

There is no decoder. The extractor sees the whole recording, a long one in windows
(`SpeechTeacher.chosen`). Its weights are in the checkpoint, or the checkpoint says where they are;
`codecs.centroids` fits centroids and writes such files.

Source: HuBERT (Hsu et al. 2021, arXiv:2106.07447, section II); several layers: Mousavi et al. 2024,
arXiv:2406.10735; without the mean of the recording: Vec-Tok (Zhu et al. 2023, arXiv:2310.07246).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from audiotok._platform.errors import InputError
from audiotok._platform.registry import find
from audiotok._platform.shapes import Features, Output
from audiotok.codecs.models.base import Codec
from audiotok.codecs.taxonomy import Taxonomy
from audiotok.data.features.base import Choice, Teacher, TeacherError
from audiotok.nn.layers.absent import Absent
from audiotok.nn.layers.base import WholeClip
from audiotok.nn.quantizers.product_vq import ProductVq

VARIABLE = "AUDIOTOK_TEACHERS"  # environment variable: a folder that holds extractors' weights
WINDOW = 1500  # frames per step: the layer waits for the whole recording, so few steps are best


@dataclass(frozen=True)
class KmeansConfig:
    """Settings of `Kmeans`.

    Attributes:
        teacher: name of the feature extractor.
        layers: hidden states, each with a codebook; "mean" is the mean of all.
        size: number of centroids of each.
        centred: whether the mean of a recording's features is taken off, which depends on the
            speaker.
        mean_of: neighbouring features whose mean is one frame.
        options: arguments of the extractor that its features depend on (`Teacher.settings`).
        network: other arguments of its constructor (`Teacher.sizes`); empty for the usual size.
        weights: where the extractor's weights are, a path or a name on a hub; "" if a checkpoint
            holds them itself.
        fingerprint: fingerprint of the extractor's weights; not checked if "".
    """

    teacher: str = "whisper"
    layers: Sequence[Choice] = (6,)
    size: int = 500
    centred: bool = False
    mean_of: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)
    network: Mapping[str, Any] = field(default_factory=dict)
    weights: str = ""
    fingerprint: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))  # JSON gives a list
        if not self.layers or len({*self.layers}) < len(self.layers):
            raise InputError(f"layers {list(self.layers)}: give one or more, each once")
        if self.mean_of < 1:
            raise InputError(f"means of {self.mean_of} features: at least one is needed")


class Extractor(WholeClip):
    """Layer from waves `[b 1 t]` to features `[b s*d f]` of s hidden states, a frame begun each.

    Args:
        teacher: the feature extractor.
        layers: hidden states.
        frame_size: samples per frame.
        mean_of: features whose mean is one frame.
        centred: whether the mean over the recording is taken off.
    """

    def __init__(
        self,
        teacher: Teacher,
        layers: Sequence[Choice],
        *,
        frame_size: int,
        mean_of: int,
        centred: bool,
    ) -> None:
        super().__init__(1, len(layers) * teacher.width)
        self.teacher = teacher
        self.layers = layers
        self.frame_size = frame_size
        self.consumes = frame_size
        self.mean_of = mean_of
        self.centred = centred

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`; where the extractor gives too few features, its last is repeated."""
        frames = -(-x.shape[2] // self.frame_size)
        features = self.teacher.chosen(x[:, 0].contiguous(), self.layers)  # [s b f d]
        features = means(features, frames, self.mean_of)
        if self.centred:
            features = features - features.mean(2, keepdim=True)
        return features.permute(1, 0, 3, 2).flatten(1, 2)


def means(features: Tensor, frames: int, mean_of: int) -> Tensor:
    """Return `frames` means `[... frames d]` of neighbouring features `[... f d]`.

    Past the end the last feature is repeated, as `FeatureCache.crop` does.
    """
    index = torch.arange(frames * mean_of, device=features.device)
    features = features[..., index.clamp(max=features.shape[-2] - 1), :]
    return features if mean_of == 1 else features.unflatten(-2, (frames, mean_of)).mean(-2)


class Kmeans(Codec):
    """A tokenizer of centroids of a feature extractor's hidden states.

    Args:
        config: its settings.
        teacher: the feature extractor; loaded or built as `config` says if None.

    Raises:
        TeacherError: the extractor's weights are missing, or others.
        InputError: it cannot be used, or has no such layer.
    """

    name = "kmeans"
    config_type = KmeansConfig
    taxonomy: ClassVar[Mapping[str, Taxonomy]] = {
        "kmeans": Taxonomy(
            encoder="any feature extractor",
            decoder="none",
            quantizer="VQ",
            training="post-hoc",
            teacher="any feature extractor",
            licence="",
        ),
    }
    causal = False
    fills_up = False
    block = WINDOW

    def __init__(
        self, config: KmeansConfig | None = None, *, teacher: Teacher | None = None
    ) -> None:
        super().__init__()
        self.config = config = config or KmeansConfig()
        teacher = teacher or teacher_of(config)
        if teacher.reads_text:
            raise InputError(f"teacher {teacher.name!r} reads text: units are of sound")
        for layer in config.layers:
            teacher.check_layer(layer)
        hop = teacher.sample_rate / teacher.frame_rate
        if hop.denominator != 1:
            raise InputError(f"teacher {teacher.name!r} has {hop} samples a feature: no integer")
        self.sample_rate = teacher.sample_rate
        self.frame_size = int(hop) * config.mean_of
        self.semantic_codebooks = len(config.layers)
        self.encoder = encoder = Extractor(
            teacher,
            config.layers,
            frame_size=self.frame_size,
            mean_of=config.mean_of,
            centred=config.centred,
        )
        self.quantizer = ProductVq(encoder.outputs, codebooks=len(config.layers), size=config.size)
        self.decoder = Absent("decoder", self.frame_size)

    @property
    def teacher(self) -> Teacher:
        """The feature extractor."""
        return cast("Extractor", self.encoder).teacher

    @property
    def _groups(self) -> nn.ModuleList:
        return cast("ProductVq", self.quantizer).groups

    @property
    def centroids(self) -> list[Tensor]:
        """Centroids `[k d]` of each layer."""
        return [group.get_buffer("entries") for group in self._groups]

    def set_centroids(self, centroids: Sequence[Tensor]) -> None:
        """Set the centroids `[k d]` of each layer."""
        for group, given in zip(self._groups, centroids, strict=True):
            group.get_buffer("entries").copy_(given)
            group.get_buffer("usage").fill_(1)

    def uncentred(self) -> Kmeans:
        """Return these units with the means of recordings left in; the extractor is shared."""
        other = Kmeans(replace(self.config, centred=False), teacher=self.teacher)
        other.set_centroids(self.centroids)
        return other.to(self.device).eval().requires_grad_(False)

    @property
    def fingerprint(self) -> str:
        """See `Tokenizer.fingerprint`; extractor, layers and centroids are covered."""
        config = self.config
        how = self.teacher.name, config.layers, config.centred, config.mean_of
        return hashlib.sha256((super().fingerprint + json.dumps(how)).encode()).hexdigest()[:16]

    def own_state(self) -> dict[str, Tensor]:
        """See `Codec.own_state`; the extractor's weights are left out if they are elsewhere."""
        state = self.state_dict()
        if not self.config.weights:
            return state
        return {key: x for key, x in state.items() if not key.startswith("encoder.teacher.")}


def teacher_of(config: KmeansConfig) -> Teacher:
    """Return the feature extractor of units: loaded, or built without weights.

    Its weights are looked for in the folder that the environment variable `AUDIOTOK_TEACHERS`
    names, under the last part of their recorded name, else where they are recorded to be.

    Raises:
        TeacherError: they are missing, or others.
    """
    kind = find("teachers", config.teacher)
    if not config.weights:
        if config.network or kind.__module__.startswith("audiotok."):
            return kind(**config.network, **config.options).eval().requires_grad_(False)
        raise TeacherError(f"teacher {config.teacher!r} cannot be built without weights")
    name = Path(config.weights).name
    elsewhere = Path(os.environ.get(VARIABLE, "")) / name
    path = elsewhere if os.environ.get(VARIABLE) and elsewhere.exists() else config.weights
    way = f"set {VARIABLE} to a folder that holds the right ones under the name {name}"
    try:
        teacher = kind.load(path, **config.options)
    except TeacherError as error:
        raise TeacherError(
            f"the weights of teacher {config.teacher!r} are needed: {error}; or {way}"
        ) from None
    if config.fingerprint not in ("", teacher.fingerprint):
        raise TeacherError(
            f"{path}: weights {teacher.fingerprint} of teacher {config.teacher!r}, where the "
            f"units are of {config.fingerprint}: {way}"
        )
    return teacher
