"""GE2E speaker embeddings by the `resemblyzer` package, which carries its weights."""

from __future__ import annotations

import warnings
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from audiotok._platform.errors import InputError
from audiotok._platform.optional import optional_import, version
from audiotok.audio.audio import Audio
from audiotok.evaluation.speaker.base import SpeakerEncoder, local, unit


class Resemblyzer(SpeakerEncoder):
    """GE2E encoder with 256 features, none negative, so that strangers have a cosine of 0.5 to 0.8.

    The package makes quiet recordings louder and cuts long silences before it embeds. Source: Wan
    et al. 2018, arXiv:1710.10467. A model is a checkpoint in the package's own format.
    """

    @property
    def protocol(self) -> str:
        """See `SpeakerEncoder`."""
        model = f"model {self.name}" if self.model else "its own weights"
        return f"{version('Resemblyzer')}, {model}, its silence cutting, 16 kHz, mono mean"

    @cached_property
    def _package(self) -> Any:
        with warnings.catch_warnings():
            # The package imports from scipy by a deprecated name.
            warnings.simplefilter("ignore", DeprecationWarning)
            return optional_import("resemblyzer")

    @cached_property
    def _network(self) -> Any:
        path = local(self.model, "a checkpoint of resemblyzer") if self.model else None
        return self._package.VoiceEncoder("cpu", verbose=False, weights_fpath=path)

    def embed(self, audio: Audio) -> Float[Tensor, " d"]:
        """See `SpeakerEncoder.embed`."""
        wave = audio.mono().resample(16000).samples[0].clamp(-1, 1)
        if not wave.any():
            raise InputError("resemblyzer: the recording is silent")
        spoken = self._package.preprocess_wav(wave.numpy())
        if not len(spoken):
            raise InputError("resemblyzer: no speech was found in the recording")
        with torch.no_grad():
            return unit(torch.from_numpy(self._network.embed_utterance(spoken)))
