"""BEATs' tokenizer of random projections: 16 kHz, 8 codes of 1,024 each 160 ms; not learnt.

    wave -> 128 log-mel bands -> patches of 160 ms by 16 bands -> a random map to 256 features
         -> the nearest of 1,024 random directions

Map and entries are drawn from a seed, which is all that a checkpoint holds, and are the same on
every machine. These are the labels that BEATs' first iteration learns to predict. Codes are
`[8 bands, frames]`, 6.25 frames/s, as those of `beats`; each depends on its own patch only, so that
the tokenizer streams, 15 ms behind the end of a frame. There is no decoder.

Source: Chen et al. 2022, arXiv:2212.09058, section 3.2.1, after BEST-RQ, Chiu et al. 2022,
arXiv:2202.01855, section 3.1: its map is drawn as Xavier's and its entries as Gaussian, and both
sides are compared by direction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from audiotok._platform.shapes import Features, Output
from audiotok.codecs.models.base import Codec
from audiotok.codecs.taxonomy import Taxonomy
from audiotok.nn.layers.absent import Absent
from audiotok.nn.layers.base import Layer, Span, State
from audiotok.nn.layers.chain import Chain
from audiotok.nn.layers.kaldi_patches import KaldiPatches
from audiotok.nn.quantizers.shared_vq import SharedVq


@dataclass(frozen=True)
class Config:
    """Settings of `BeatsRandom`; the defaults are the published sizes."""

    seed: int = 0  # of the map and the entries
    steps: int = 16  # steps of 10 ms in a patch
    bands: int = 128  # mel bands
    height: int = 16  # bands in a patch
    width: int = 256  # features of an entry
    size: int = 1024  # entries


class BeatsRandom(Codec):
    """A tokenizer of random directions of patches, without learnt weights."""

    name = "beats_random"
    config_type = Config
    presets: ClassVar[Mapping[str, Config]] = {"beats_random": Config()}
    taxonomy: ClassVar[Mapping[str, Taxonomy]] = {
        "beats_random": Taxonomy(
            encoder="random projection",
            decoder="none",
            quantizer="VQ",
            training="none",
            domain="audio",
            licence="",
        ),
    }
    own_weights = True
    causal = False
    fills_up = False

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()
        self.sample_rate = 16000
        patches = KaldiPatches(steps=config.steps, bands=config.bands, height=config.height)
        self.frame_size = patches.consumes
        codebooks = config.bands // config.height
        random = np.random.RandomState(config.seed)
        project = _Project(codebooks, config.steps * config.height, config.width, random)
        self.encoder = Chain([patches, project])
        self.quantizer = SharedVq(
            codebooks * config.width, codebooks=codebooks, size=config.size, decay=1.0
        )
        entries = random.standard_normal((config.size, config.width))
        entries /= np.linalg.norm(entries, axis=1, keepdims=True)
        self.quantizer.book.entries.copy_(torch.from_numpy(entries))
        self.decoder = Absent("decoder", self.frame_size)

    def own_state(self) -> dict[str, Tensor]:
        """See `Codec.own_state`; nothing, as the seed tells everything."""
        return {}


class _Project(Layer):
    """Random map of neighbouring features, the same for each group: `[b g*d t]` to `[b g*e t]`."""

    map: Tensor

    def __init__(self, groups: int, inputs: int, outputs: int, random: np.random.RandomState):
        super().__init__()
        self.groups = groups
        drawn = random.standard_normal((outputs, inputs)) * (2 / (inputs + outputs)) ** 0.5
        self.register_buffer("map", torch.from_numpy(drawn).float())

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Layer.step`; there is no state."""
        parts = x.transpose(1, 2).unflatten(2, (self.groups, -1))
        return (parts @ self.map.T).flatten(2).transpose(1, 2), None

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; each output depends on its own input only."""
        return first, last
