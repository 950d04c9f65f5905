"""A codec whose network stays as it was, with another quantizer learnt on its latents.

    wave -> encoder -> latents -> quantizer -> latents -> decoder -> wave
            frozen                learnt                  frozen

`codecs.quantizer_fit` trains the quantizer. The network may be that of a codec of latents, which so
gets codes, or of one with codebooks, which gets others. Its weights are in the checkpoint.

Source: TokenBridge (Wang et al. 2025, arXiv:2503.16430) discretises autoencoders of images so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import nn

from audiotok._platform.errors import InputError
from audiotok._platform.registry import find
from audiotok._platform.shapes import Latent, State, Wave
from audiotok.codecs.models.base import Codec
from audiotok.codecs.taxonomy import Taxonomy
from audiotok.nn.layers.base import Layer
from audiotok.nn.quantizer import NONE, build_quantizer

LEFT = ("quantizer", "semantic")  # what is replaced, and a head that only training uses
COPIED = (
    *("sample_rate", "frame_size", "channels", "look_ahead", "causal", "exact_chunks", "block"),
    *("first_frames", "period", "fills_up"),
)


@dataclass(frozen=True)
class Config:
    """Settings of `Discretised`.

    Attributes:
        codec: class of codec that the network is of, by its file name.
        sizes: sizes of that codec that differ from its defaults.
        features: width of its latents.
        quantizer: name of any quantizer of latents.
        quantizer_options: its options by name.
    """

    codec: str = "speech"
    sizes: Mapping[str, Any] = field(default_factory=dict)
    features: int = 96
    quantizer: str = "rvq"
    quantizer_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("sizes", "quantizer_options"):  # with lists for tuples, as in a checkpoint
            object.__setattr__(self, name, json.loads(json.dumps(getattr(self, name))))


class Discretised(Codec):
    """A codec of a frozen network and of a quantizer that was learnt on its latents."""

    name = "discretised"
    config_type = Config
    taxonomy: ClassVar[Mapping[str, Taxonomy]] = {
        "discretised": Taxonomy(
            encoder="any codec's",
            decoder="any codec's",
            quantizer="any",
            training="post-hoc",
            teacher="the codec itself",
            licence="",
        ),
    }
    base: Codec

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()
        kind = find("codecs", config.codec)
        if issubclass(kind, Discretised):
            raise InputError("a discretised codec is discretised already: name the codec before")
        base: Codec = kind(kind.config_type(**config.sizes))
        if not base.quantizer.of_latents:
            raise InputError(f"codec {config.codec!r} codes segments, whose latents have no frames")
        if base.latents_of_codes or "quantizer" not in dict(base.named_children()):
            why = (
                "its latents depend on its codes"
                if base.latents_of_codes
                else "it has several quantizers"
            )
            raise InputError(f"codec {config.codec!r}: {why}, so that no quantizer takes its place")
        for name in COPIED:
            setattr(self, name, getattr(base, name))
        if config.quantizer == NONE:
            raise InputError(f"quantizer {NONE!r} makes no codes: name a quantizer of latents")
        base.quantizer = build_quantizer(
            config.quantizer, config.features, config.quantizer_options, usual={}
        )
        self.quantizer = base.quantizer
        for name, part in base.named_children():
            if name not in LEFT:
                self.add_module(name, part)
        # Not registered as a module: its parts are ours, under their own names.
        object.__setattr__(self, "base", base)

    def load_network(self, codec: Codec) -> None:
        """Copy the weights of a codec, all but those of its quantizer and of its training."""
        for name, part in codec.named_children():
            if name not in LEFT:
                self.get_submodule(name).load_state_dict(part.state_dict())

    # -- the network ------------------------------------------------------------------------------

    @property
    def decoded_rate(self) -> int:
        """See `Tokenizer.decoded_rate`."""
        return self.base.decoded_rate

    def frames(self, samples: int) -> int:
        """See `Network.frames`."""
        return self.base.frames(samples)

    def ends(self) -> tuple[Layer, Layer]:
        """See `Network.ends`."""
        return self.base.ends()

    def start_latent(self, batch: int) -> State:
        """See `Network.start_latent`."""
        return self.base.start_latent(batch)

    def step_latent(self, wave: Wave, state: State) -> tuple[Latent, State]:
        """See `Network.step_latent`."""
        return self.base.step_latent(wave, state)

    def finish_latent(self, wave: Wave, state: State) -> Latent:
        """See `Network.finish_latent`."""
        return self.base.finish_latent(wave, state)

    def start_wave(self, batch: int) -> State:
        """See `Network.start_wave`."""
        return self.base.start_wave(batch)

    def step_wave(self, latent: Latent, state: State, frames: int) -> tuple[Wave, State]:
        """See `Network.step_wave`."""
        return self.base.step_wave(latent, state, frames)

    def finish_wave(self, latent: Latent, state: State) -> Wave:
        """See `Network.finish_wave`."""
        return self.base.finish_wave(latent, state)

    def flush_wave(self, state: State) -> Wave:
        """See `Network.flush_wave`."""
        return self.base.flush_wave(state)

    def weight_normed(self) -> Iterable[nn.Module]:
        """See `Network.weight_normed`."""
        return self.base.weight_normed()
